//! What `kubectl get pods` shows of a pod, as kube-apiserver's printer (`printPod`) puts it together.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, has_condition, items, name, number, or_none, since, text};

/// The cells of a pod's row.
pub fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let seen = Seen::of(pod);
    let ips = items(pod, "/status/podIPs");
    let ip = ips.first().map_or(text(pod, "/status/podIP"), |first| text(first, "/ip"));
    vec![
        json!(name(pod)),
        json!(format!("{}/{}", seen.ready, seen.total)),
        json!(seen.reason),
        json!(seen.restarts(now)),
        json!(age(pod, now)),
        json!(or_none(ip)),
        json!(or_none(text(pod, "/spec/nodeName"))),
        json!(or_none(text(pod, "/status/nominatedNodeName"))),
        json!(readiness_gates(pod)),
    ]
}

/// What the containers' states come to.
struct Seen<'a> {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: &'a str,
}

impl<'a> Seen<'a> {
    fn of(pod: &'a Value) -> Self {
        let sidecars =
            items(pod, "/spec/initContainers").iter().filter(|one| is_sidecar(one)).count();
        let mut seen = Self {
            reason: first_reason(pod),
            ready: 0,
            total: items(pod, "/spec/containers").len() + sidecars,
            restarts: 0,
            last_restart: "",
        };
        let initializing = seen.init_containers(pod);
        if !initializing || has_condition(pod, "Initialized") {
            seen.containers(pod);
        }
        seen.deletion(pod);
        seen
    }

    /// Goes through the init containers up to the first that is not done. Answers whether there is one; restarts are counted as
    /// those of all init containers then, else of sidecars.
    fn init_containers(&mut self, pod: &'a Value) -> bool {
        let specs = items(pod, "/spec/initContainers");
        let mut sidecars = (0, "");
        for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
            let sidecar =
                specs.iter().any(|spec| spec.get("name") == status.get("name") && is_sidecar(spec));
            self.restarted(status);
            if sidecar {
                sidecars = (
                    sidecars.0 + number(status, "/restartCount"),
                    later(sidecars.1, last_end(status)),
                );
            }
            match init_reason(status, sidecar, index, specs.len()) {
                None if sidecar && status["started"] == json!(true) => {
                    self.ready += usize::from(status["ready"] == json!(true));
                }
                None => {}
                Some(reason) => {
                    self.reason = reason;
                    // an initialized pod's restarts are counted anew by `containers`
                    if has_condition(pod, "Initialized") {
                        (self.restarts, self.last_restart) = sidecars;
                    }
                    return true;
                }
            }
        }
        (self.restarts, self.last_restart) = sidecars;
        false
    }

    fn containers(&mut self, pod: &'a Value) {
        let mut running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.restarted(status);
            if let Some(reason) = container_reason(status) {
                self.reason = reason;
            } else if status["ready"] == json!(true) && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = has_condition(pod, "Ready");
            (if ready { "Running" } else { "NotReady" }).clone_into(&mut self.reason);
        }
    }

    fn restarted(&mut self, status: &'a Value) {
        self.restarts += number(status, "/restartCount");
        self.last_restart = later(self.last_restart, last_end(status));
    }

    fn deletion(&mut self, pod: &Value) {
        if text(pod, "/metadata/deletionTimestamp").is_empty() {
            return;
        }
        if text(pod, "/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut self.reason);
        } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut self.reason);
        }
    }

    fn restarts(&self, now: Timestamp) -> String {
        match (self.restarts, self.last_restart) {
            (0, _) | (_, "") => self.restarts.to_string(),
            (restarts, last) => format!("{restarts} ({} ago)", since(last, now)),
        }
    }
}

fn first_reason(pod: &Value) -> String {
    let gated = items(pod, "/status/conditions").iter().any(|one| {
        text(one, "/type") == "PodScheduled" && text(one, "/reason") == "SchedulingGated"
    });
    let own = [text(pod, "/status/reason"), text(pod, "/status/phase")];
    if gated {
        return "SchedulingGated".to_owned();
    }
    own.into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned()
}

fn is_sidecar(spec: &Value) -> bool {
    text(spec, "/restartPolicy") == "Always"
}

fn last_end(status: &Value) -> &str {
    text(status, "/lastState/terminated/finishedAt")
}

/// The later of two moments; both are RFC 3339 in UTC, whose order is that of the texts.
fn later<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one < other { other } else { one }
}

/// Why the pod still waits for this init container; `None`: it does not.
fn init_reason(status: &Value, sidecar: bool, index: usize, count: usize) -> Option<String> {
    let terminated = status.pointer("/state/terminated").filter(|state| state.is_object());
    let waiting = text(status, "/state/waiting/reason");
    match terminated {
        Some(state) if number(state, "/exitCode") == 0 => None,
        _ if sidecar && status["started"] == json!(true) => None,
        Some(state) => Some(format!("Init:{}", terminated_reason(state))),
        None if !waiting.is_empty() && waiting != "PodInitializing" => {
            Some(format!("Init:{waiting}"))
        }
        None => Some(format!("Init:{index}/{count}")),
    }
}

fn container_reason(status: &Value) -> Option<String> {
    let waiting = text(status, "/state/waiting/reason");
    let terminated = status.pointer("/state/terminated").filter(|state| state.is_object());
    match terminated {
        _ if !waiting.is_empty() => Some(waiting.to_owned()),
        Some(state) => Some(terminated_reason(state)),
        None => None,
    }
}

fn terminated_reason(state: &Value) -> String {
    match (text(state, "/reason"), number(state, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(state, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "/spec/readinessGates");
    let open = gates.iter().filter(|gate| has_condition(pod, text(gate, "/conditionType"))).count();
    if gates.is_empty() { "<none>".to_owned() } else { format!("{open}/{}", gates.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pod: Value) -> Vec<String> {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        row(&pod, now)[1..4].iter().map(|cell| cell.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn states_of_containers_become_one_word() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let pod =
            |status: Value| json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        assert_eq!(shown(pod(json!({"phase": "Pending"}))), ["0/2", "Pending", "0"]);
        let running = json!({"phase": "Running", "containerStatuses": [
            {"ready": true, "restartCount": 2, "state": {"running": {}},
             "lastState": {"terminated": {"finishedAt": "2026-01-01T00:09:00Z"}}},
            {"ready": false, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        ]});
        assert_eq!(shown(pod(running)), ["1/2", "CrashLoopBackOff", "3 (60s ago)"]);
        let done = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
            {"ready": false, "state": {"terminated": {"reason": "Completed", "exitCode": 0}}},
            {"ready": true, "state": {"running": {}}},
        ]});
        assert_eq!(shown(pod(done)), ["1/2", "Running", "0"]);
        let killed = json!({"containerStatuses": [{"state": {"terminated": {"signal": 9, "exitCode": 137}}}]});
        assert_eq!(shown(pod(killed))[1], "Signal:9");
    }

    #[test]
    fn init_containers_come_first() {
        let pod = |statuses: Value| {
            json!({
                "spec": {"initContainers": [{"name": "one"}, {"name": "proxy", "restartPolicy": "Always"}], "containers": [{}]},
                "status": {"phase": "Pending", "initContainerStatuses": statuses},
            })
        };
        assert_eq!(shown(pod(json!([{"name": "one", "state": {"running": {}}}])))[1], "Init:0/2");
        let failed =
            json!([{"name": "one", "restartCount": 4, "state": {"terminated": {"exitCode": 3}}}]);
        assert_eq!(shown(pod(failed))[1..], ["Init:ExitCode:3", "4"]);
        let sidecar = json!([
            {"name": "one", "restartCount": 4, "state": {"terminated": {"exitCode": 0}}},
            {"name": "proxy", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}},
        ]);
        assert_eq!(shown(pod(sidecar)), ["1/2", "Pending", "1"]);
    }

    #[test]
    fn a_deleted_pod_is_terminating_until_it_has_ended() {
        let pod = |phase: &str| json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": phase}});
        assert_eq!(shown(pod("Running"))[1], "Terminating");
        assert_eq!(shown(pod("Succeeded"))[1], "Succeeded");
    }
}
