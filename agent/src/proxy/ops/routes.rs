//! What the two servers of the proxy answer: metrics and configuration to this host, health to load balancers and the kubelet.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::{Ops, exposition};

/// The key of the configuration in `/configz`: the API group of `KubeProxyConfiguration`.
const CONFIG_KEY: &str = "kubeproxy.config.k8s.io";
/// What a browser must not guess; kube-proxy says so too.
const NOSNIFF: (header::HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

/// `/metrics`, `/proxyMode`, `/configz` and `/healthz`, as at kube-proxy's port 10249.
pub fn metrics(ops: Ops) -> Router {
    let mode = |State(ops): State<Ops>| async move { ([NOSNIFF], ops.mode().name()) };
    Router::new()
        .route("/metrics", get(numbers))
        .route("/proxyMode", get(mode))
        .route("/configz", get(configz))
        // says only that this server answers, as kube-proxy's does
        .route("/healthz", get(|| async { ([NOSNIFF], "ok") }))
        .with_state(ops)
}

/// `/healthz` and `/livez`, as at kube-proxy's port 10256.
pub fn health(ops: Ops) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/livez", get(livez)).with_state(ops)
}

async fn numbers(State(ops): State<Ops>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], ops.metrics_text())
}

async fn configz(State(ops): State<Ops>) -> impl IntoResponse {
    Json(json!({ CONFIG_KEY: ops.configuration() }))
}

async fn healthz(State(ops): State<Ops>) -> Response {
    let (status, body) = ops.health().healthz();
    answer(&ops, false, status, Json(body))
}

async fn livez(State(ops): State<Ops>) -> Response {
    let (status, body) = ops.health().livez();
    answer(&ops, true, status, Json(body))
}

fn answer(ops: &Ops, live: bool, status: StatusCode, body: impl IntoResponse) -> Response {
    ops.count_answer(live, status);
    (status, [NOSNIFF], body).into_response()
}
