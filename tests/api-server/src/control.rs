//! Changes and faults over HTTP, for other programs: `POST /control/…`.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use serde_json::Value;

use crate::generate::{Plan, objects};
use crate::resource::Resource;
use crate::server::Server;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Faulty {
    away: Option<bool>,
    /// 0: properly again.
    status: Option<u16>,
    delay_ms: Option<u64>,
    gone_as_status: Option<bool>,
}

/// The routes.
pub fn router(server: Server) -> Router {
    Router::new()
        .route("/objects", post(put))
        .route("/objects/{kind}/{namespace}/{name}/delete", post(delete))
        .route("/generate", post(generate))
        .route("/events/{kind}", post(tell))
        .route("/compact", post(async |State(server): State<Server>| server.compact()))
        .route("/cut", post(async |State(server): State<Server>| server.cut()))
        .route("/faults", post(faults))
        .with_state(server)
}

/// Adds or replaces an object, or each of a `List`. Answers with the version.
async fn put(State(server): State<Server>, Json(object): Json<Value>) -> (StatusCode, String) {
    let of_list = object["items"].as_array().cloned();
    let all = of_list.unwrap_or_else(|| vec![object.clone()]);
    if all.iter().any(|object| Resource::of(object).is_none()) {
        return (
            StatusCode::BAD_REQUEST,
            "kind is none of Service, EndpointSlice, Node".to_owned(),
        );
    }
    (StatusCode::OK, server.put(object).to_string())
}

async fn delete(
    State(server): State<Server>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
) -> StatusCode {
    let resource = Resource::ALL.into_iter().find(|resource| resource.plural() == kind);
    match resource {
        Some(resource) if server.delete(resource, &namespace, &name) => StatusCode::OK,
        _ => StatusCode::NOT_FOUND,
    }
}

async fn generate(State(server): State<Server>, Json(plan): Json<Plan>) {
    server.put_all(objects(&plan));
}

async fn tell(State(server): State<Server>, Path(kind): Path<String>, event: String) -> StatusCode {
    match Resource::ALL.into_iter().find(|resource| resource.plural() == kind) {
        Some(resource) => {
            server.tell(resource, &event);
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}

async fn faults(State(server): State<Server>, Query(asked): Query<Faulty>) {
    if let Some(status) = asked.status {
        server.set_status(Some(status).filter(|status| *status != 0));
    }
    if let Some(millis) = asked.delay_ms {
        server.set_delay(Duration::from_millis(millis));
    }
    if let Some(as_status) = asked.gone_as_status {
        server.set_gone_as_status(as_status);
    }
    if let Some(away) = asked.away {
        server.set_away(away);
    }
}
