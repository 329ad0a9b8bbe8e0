use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;

use super::*;
use crate::node::{ErrorBoard, ServiceBoard};
use crate::pod::plan::PodPlan;
use crate::proxy::ops::{Listeners, Mode, SettingNames, Settings};
use crate::runtime::FakeRuntime;

fn boards() -> (Boards<FakeRuntime>, FakeRuntime) {
    let runtime = FakeRuntime::default();
    let boards = Boards {
        node_name: "node".to_owned(),
        started: Instant::now(),
        pods: StatusBoard::default(),
        proxy_mode: Some("iptables"),
        services: ServiceBoard::default(),
        errors: ErrorBoard::default(),
        ops: None,
        overlay: None,
        runtime: runtime.clone(),
    };
    (boards, runtime)
}

fn get(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn ask(path: &Path, request: &'static str) -> String {
    let path = path.to_owned();
    let ask = move || get(UnixStream::connect(path).unwrap(), request);
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test]
async fn the_socket_tells_what_there_is_to_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/agent.sock");
    let (boards, _) = boards();
    // left by an agent that was killed
    fs::create_dir(folder.path().join("run")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    serve_socket(&path, boards.clone()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for name in ["b", "a"] {
        let mut plan = PodPlan::default();
        plan.pod.uid = name.to_owned();
        let status = PodStatus { name: name.to_owned(), ..PodStatus::default() };
        boards.pods.set(&plan, status);
    }
    let error = SourceError { object: "Pod x/y".to_owned(), ..SourceError::default() };
    boards.errors.write().unwrap().push(error.clone());
    let document = fetch_status(&path).await.unwrap();
    assert_eq!((document.node.name.as_str(), document.node.pid), ("node", std::process::id()));
    assert_eq!(document.pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(document.errors, [error]);
    assert!(ask(&path, "/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn health_has_its_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let (boards, runtime) = boards();
    serve_socket(&path, boards.clone()).unwrap();
    let healthy = ask(&path, "/healthz").await;
    assert!(healthy.starts_with("HTTP/1.1 200") && healthy.ends_with("ok\n"), "{healthy}");
    runtime.fail("version", 1);
    let sick = ask(&path, "/healthz").await;
    assert!(sick.starts_with("HTTP/1.1 500") && sick.contains("told to fail"), "{sick}");
}

#[tokio::test]
async fn an_overlay_alone_tells_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("overlay.sock");
    let board = Board::new("vxlan");
    serve_overlay(&path, "node", board.clone()).unwrap();
    let document = fetch_status(&path).await.unwrap();
    assert_eq!(document.overlay.as_ref().map(|overlay| overlay.backend.as_str()), Some("vxlan"));
    let text = render(&document);
    assert!(
        text.contains("overlay vxlan, underlay not found") && !text.contains("NAMESPACE"),
        "{text}"
    );
    let sick = ask(&path, "/healthz").await;
    assert!(sick.starts_with("HTTP/1.1 500") && sick.contains("not set up yet"), "{sick}");
    board.facts().status.last_sync = Some("now".to_owned());
    assert!(ask(&path, "/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn nobody_there_says_what_to_look_at() {
    let error = fetch_status(Path::new("/nowhere/agent.sock")).await.unwrap_err();
    assert!(error.to_string().contains("is heddle-agent running"), "{error}");
}

#[tokio::test]
async fn a_port_of_the_proxy_that_is_taken_is_a_problem_of_the_node() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let health_timeout = Duration::from_mins(1);
    let settings = Settings { mode: Mode::Iptables, health_timeout, configuration: json!({}) };
    let ops = Ops::new(settings);
    let names = SettingNames { metrics: "the.key", ..SettingNames::KUBE_PROXY };
    let listeners = Listeners { metrics: Some(address), health: None, hard_fail: false, names };
    let _serving = ops.serve(listeners).unwrap();
    let boards = Boards { ops: Some(ops), ..boards().0 };
    let problems = boards.document().node.problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    let want = format!("the metrics server cannot listen at {address}: ");
    assert!(problems[0].starts_with(&want), "{problems:?}");
    assert!(problems[0].contains(", or set the.key; it is tried again"), "{problems:?}");
}
