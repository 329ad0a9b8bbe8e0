//! What every node needs: the pods bound to it, and what these name.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

/// What a pod may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Needed {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
}

/// A kind, a namespace and a name.
type Thing = (Needed, String, String);

#[derive(Debug, Default)]
struct Volume {
    claim: (String, String),
    secrets: BTreeSet<(String, String)>,
}

/// The graph. Fed with every pod and persistent volume at the start and with every change afterwards.
#[derive(Debug, Default)]
pub struct Graph {
    /// By namespace and name of a pod: its node and what it names.
    pods: HashMap<(String, String), (String, BTreeSet<Thing>)>,
    /// Which nodes need a thing, and how many of their pods do.
    needed: HashMap<Thing, HashMap<String, usize>>,
    volumes: HashMap<String, Volume>,
}

impl Graph {
    /// A pod was made or changed.
    pub fn put_pod(&mut self, pod: &Value) {
        let (namespace, name) =
            (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        self.remove_pod(&namespace, &name);
        let node = text(&pod["spec"]["nodeName"]);
        if node.is_empty() {
            return;
        }
        let mut things = BTreeSet::from([(Needed::Pod, namespace.clone(), name.clone())]);
        // A kubelet makes mirror pods itself; they must not give it access to anything.
        if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
            let named = references(pod).into_iter();
            things.extend(named.map(|(kind, name)| (kind, namespace.clone(), name)));
        }
        for thing in &things {
            let nodes = self.needed.entry(thing.clone()).or_default();
            *nodes.entry(node.clone()).or_default() += 1;
        }
        self.pods.insert((namespace, name), (node, things));
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some((node, things)) = self.pods.remove(&key) else { return };
        for thing in things {
            let Some(nodes) = self.needed.get_mut(&thing) else { continue };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.needed.remove(&thing);
            }
        }
    }

    /// A persistent volume was made or changed.
    pub fn put_volume(&mut self, volume: &Value) {
        let (name, reference) = (text(&volume["metadata"]["name"]), &volume["spec"]["claimRef"]);
        self.volumes.remove(&name);
        let claim = (text(&reference["namespace"]), text(&reference["name"]));
        if claim.1.is_empty() {
            return;
        }
        let mut secrets = BTreeSet::new();
        volume_secrets(&volume["spec"], &claim.0, &mut secrets);
        self.volumes.insert(name, Volume { claim, secrets });
    }

    /// A persistent volume is gone.
    pub fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
    }

    /// Whether a pod of the node needs something, directly or through a volume that one of its claims is bound to.
    pub fn needs(&self, node: &str, kind: Needed, namespace: &str, name: &str) -> bool {
        let thing = (kind, namespace.to_owned(), name.to_owned());
        let direct = self.needed.get(&thing).is_some_and(|nodes| nodes.contains_key(node));
        let (_, namespace, name) = thing;
        let secret = (namespace, name);
        direct
            || kind == Needed::Secret
                && self
                    .volumes
                    .values()
                    .any(|volume| volume.secrets.contains(&secret) && self.mounts(node, volume))
    }

    /// Whether a pod of the node claims a persistent volume.
    pub fn needs_volume(&self, node: &str, name: &str) -> bool {
        self.volumes.get(name).is_some_and(|volume| self.mounts(node, volume))
    }

    fn mounts(&self, node: &str, volume: &Volume) -> bool {
        let (namespace, claim) = &volume.claim;
        self.needs(node, Needed::Claim, namespace, claim)
    }
}

/// What a pod names in its own namespace.
pub(super) fn references(pod: &Value) -> BTreeSet<(Needed, String)> {
    let (spec, mut found) = (&pod["spec"], BTreeSet::new());
    let account = text(&spec["serviceAccountName"]);
    found.insert((Needed::ServiceAccount, account));
    for reference in items(&spec["imagePullSecrets"]) {
        found.insert((Needed::Secret, text(&reference["name"])));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&spec[list]) {
            container_references(container, &mut found);
        }
    }
    let pod_name = text(&pod["metadata"]["name"]);
    for volume in items(&spec["volumes"]) {
        volume_references(volume, &pod_name, &mut found);
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn container_references(container: &Value, found: &mut BTreeSet<(Needed, String)>) {
    for variable in items(&container["env"]) {
        let from = &variable["valueFrom"];
        found.insert((Needed::Secret, text(&from["secretKeyRef"]["name"])));
        found.insert((Needed::ConfigMap, text(&from["configMapKeyRef"]["name"])));
    }
    for from in items(&container["envFrom"]) {
        found.insert((Needed::Secret, text(&from["secretRef"]["name"])));
        found.insert((Needed::ConfigMap, text(&from["configMapRef"]["name"])));
    }
}

fn volume_references(volume: &Value, pod: &str, found: &mut BTreeSet<(Needed, String)>) {
    found.insert((Needed::Secret, text(&volume["secret"]["secretName"])));
    found.insert((Needed::Secret, text(&volume["azureFile"]["secretName"])));
    found.insert((Needed::Secret, text(&volume["csi"]["nodePublishSecretRef"]["name"])));
    for kind in ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
        found.insert((Needed::Secret, text(&volume[kind]["secretRef"]["name"])));
    }
    found.insert((Needed::ConfigMap, text(&volume["configMap"]["name"])));
    for source in items(&volume["projected"]["sources"]) {
        found.insert((Needed::Secret, text(&source["secret"]["name"])));
        found.insert((Needed::ConfigMap, text(&source["configMap"]["name"])));
    }
    found.insert((Needed::Claim, text(&volume["persistentVolumeClaim"]["claimName"])));
    if volume["ephemeral"].is_object() {
        found.insert((Needed::Claim, format!("{pod}-{}", text(&volume["name"]))));
    }
}

/// The secrets that a persistent volume's driver needs on the node; without a namespace they are the claim's.
fn volume_secrets(spec: &Value, namespace: &str, found: &mut BTreeSet<(String, String)>) {
    let sources = spec.as_object().into_iter().flatten().map(|(_, source)| source);
    for source in sources {
        for field in
            ["secretRef", "nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"]
        {
            let reference = &source[field];
            let (name, own) = (text(&reference["name"]), text(&reference["namespace"]));
            let own = if own.is_empty() { namespace.to_owned() } else { own };
            if !name.is_empty() {
                found.insert((own, name));
            }
        }
        let name = text(&source["secretName"]);
        if !name.is_empty() {
            let own = text(&source["secretNamespace"]);
            found.insert((if own.is_empty() { namespace.to_owned() } else { own }, name));
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "dev"}, "spec": {
        "nodeName": node, "serviceAccountName": "builder",
        "imagePullSecrets": [{"name": "registry"}],
        "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}]}],
        "containers": [{"envFrom": [{"configMapRef": {"name": "env"}}, {"secretRef": {"name": "envs"}}]}],
        "volumes": [
            {"secret": {"secretName": "tls"}}, {"configMap": {"name": "conf"}},
            {"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "more"}}]}},
            {"persistentVolumeClaim": {"claimName": "data"}}, {"name": "tmp", "ephemeral": {}},
        ]}})
    }

    fn all() -> Vec<(Needed, String)> {
        let names = |kind, names: &str| {
            names.split(' ').map(move |name| (kind, name.to_owned())).collect::<Vec<_>>()
        };
        [
            names(Needed::Secret, "registry key envs tls more"),
            names(Needed::ConfigMap, "env conf kube-root-ca.crt"),
            names(Needed::Claim, "data web-tmp"),
            names(Needed::ServiceAccount, "builder"),
            names(Needed::Pod, "web"),
        ]
        .concat()
    }

    #[test]
    fn a_node_needs_what_its_pods_name_and_as_long_as_they_do() {
        let mut graph = Graph::default();
        graph.put_pod(&pod("web", "n1"));
        for (kind, name) in all() {
            assert!(graph.needs("n1", kind, "dev", &name), "{kind:?} {name}");
            assert!(
                !graph.needs("n2", kind, "dev", &name) && !graph.needs("n1", kind, "prod", &name)
            );
        }
        assert!(!graph.needs("n1", Needed::Secret, "dev", "other"));
        graph.put_pod(&pod("second", "n1"));
        graph.remove_pod("dev", "web");
        assert!(graph.needs("n1", Needed::Secret, "dev", "tls"), "the second pod needs it too");
        graph.put_pod(&pod("second", "n2"));
        assert!(
            graph.needs("n2", Needed::Secret, "dev", "tls")
                && !graph.needs("n1", Needed::Secret, "dev", "tls")
        );
        graph.remove_pod("dev", "second");
        graph.remove_pod("dev", "second");
        assert!(graph.needed.is_empty() && graph.pods.is_empty());
    }

    #[test]
    fn pods_without_a_node_and_mirror_pods_give_nothing() {
        let mut graph = Graph::default();
        graph.put_pod(&pod("web", ""));
        let mut mirror = pod("mirror", "n1");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        graph.put_pod(&mirror);
        assert!(!graph.needs("n1", Needed::Secret, "dev", "tls"));
        assert!(graph.needs("n1", Needed::Pod, "dev", "mirror"));
    }

    #[test]
    fn a_volume_leads_to_its_secrets() {
        let mut graph = Graph::default();
        graph.put_pod(&pod("web", "n1"));
        let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "dev", "name": "data"},
            "csi": {"nodeStageSecretRef": {"namespace": "kube-system", "name": "stage"}}, "rbd": {"secretRef": {"name": "rbd"}}}});
        graph.put_volume(&volume);
        assert!(graph.needs_volume("n1", "pv") && !graph.needs_volume("n2", "pv"));
        assert!(graph.needs("n1", Needed::Secret, "kube-system", "stage"));
        assert!(graph.needs("n1", Needed::Secret, "dev", "rbd"));
        graph.remove_volume("pv");
        assert!(
            !graph.needs_volume("n1", "pv") && !graph.needs("n1", Needed::Secret, "dev", "rbd")
        );
    }
}
