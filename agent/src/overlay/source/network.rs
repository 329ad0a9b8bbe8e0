//! The condition `NetworkUnavailable` of this node's own object.
//!
//! Where a cloud routes between nodes, its controller manager gives new nodes this condition, and with it a taint that keeps pods away
//! (`node.kubernetes.io/network-unavailable`) until whoever provides the network says that it is there. A node without the condition
//! is one without the taint, so it is never added.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::keeper::Duty;

/// The condition's type.
const TYPE: &str = "NetworkUnavailable";
/// Its status where there is a network.
const AVAILABLE: &str = "False";
/// Who says so.
const REASON: &str = "HeddleOverlayIsUp";

/// The condition's status; `None`: there is no such condition, or no object.
pub type Status = Option<String>;

/// That the condition says that there is a network, once this node is connected.
#[derive(Clone, Copy, Debug)]
pub struct Network;

impl Duty for Network {
    /// Whether this node is connected.
    type Wanted = bool;
    type Seen = Status;
    const WHO: &'static str = "this Node's condition NetworkUnavailable";
    const STAYS: &'static str = "the taint of this node that keeps pods away";
    const WRITTEN: &'static str = "this node's condition NetworkUnavailable is cleared";
    const QUARREL: &'static str = "somebody sets this node's condition NetworkUnavailable again and again, which keeps pods away; does a \
                                   cloud's controller manager make routes for pods, too? Switch that off \
                                   (--configure-cloud-routes=false), or stop this overlay";
    const PERMISSION: &'static str = "patch of nodes/status";

    fn patch(connected: &bool, status: &Status) -> Option<Value> {
        let differs = status.as_ref().is_some_and(|status| status != AVAILABLE);
        (*connected && differs).then(|| available(jiff::Timestamp::now()))
    }

    async fn write(
        api: &Api<Node>,
        name: &str,
        parameters: &PatchParams,
        patch: Value,
    ) -> kube::Result<()> {
        api.patch_status(name, parameters, &Patch::Strategic(&patch)).await.map(drop)
    }

    fn problem(node: &str, reason: &str) -> String {
        format!(
            "pods are kept away from this node: cannot clear the condition NetworkUnavailable of Node {node}: {reason}"
        )
    }
}

/// The condition's status.
pub fn status(object: &Node) -> Status {
    let mut conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| condition.type_ == TYPE).map(|condition| condition.status.clone())
}

/// A strategic merge patch: conditions are merged by their type.
fn available(now: jiff::Timestamp) -> Value {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = json!({
        "type": TYPE, "status": AVAILABLE, "reason": REASON,
        "message": "the overlay of this node is up",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    json!({"status": {"conditions": [condition]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_condition_that_is_there_is_cleared_once_the_node_is_connected() {
        let table = [
            (true, None, false),
            (true, Some("False"), false),
            (true, Some("True"), true),
            (true, Some("Unknown"), true),
            (false, Some("True"), false),
        ];
        for (connected, status, written) in table {
            let patch = Network::patch(&connected, &status.map(str::to_owned));
            assert_eq!(patch.is_some(), written, "{connected} {status:?}");
        }
    }

    #[test]
    fn the_patch_names_one_condition() {
        let now = "2026-11-22T01:02:03.456Z".parse().unwrap();
        let time = "2026-11-22T01:02:03Z";
        let condition = json!({
            "type": "NetworkUnavailable", "status": "False", "reason": "HeddleOverlayIsUp",
            "message": "the overlay of this node is up", "lastHeartbeatTime": time, "lastTransitionTime": time,
        });
        assert_eq!(available(now), json!({"status": {"conditions": [condition]}}));
    }
}
