//! The server as a service: `default/kubernetes`, its endpoints, and the namespaces that every cluster has.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::leader::LEASES;
use super::{Controller, Key, NAMESPACES, if_found, place, unless_there};
use crate::api::options::{ListOptions, WriteOptions};
use crate::api::status::Status;
use crate::api::update::Part;
use crate::api::{Api, Place};
use crate::meta::object::Meta;
use crate::meta::time::MicroTime;
use crate::registry::Kind;
use crate::registry::column::text;

/// The namespaces that every cluster has.
pub const SYSTEM_NAMESPACES: [&str; 4] =
    ["default", "kube-system", "kube-public", "kube-node-lease"];
const SERVICES: (&str, &str, &str) = ("", "v1", "services");
const ENDPOINTS: (&str, &str, &str) = ("", "v1", "endpoints");
const SLICES: (&str, &str, &str) = ("discovery.k8s.io", "v1", "endpointslices");
/// By this label servers find each other's leases, as kube-apiservers do.
const IDENTITY: &str = "apiserver.kubernetes.io/identity";
const IDENTITY_VALUE: &str = "kube-apiserver";
const ADDRESS: &str = "heddle.dev/advertise-address";
/// A server that did not renew its lease for so long does not count.
const ALIVE: SignedDuration = SignedDuration::from_secs(60);
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// The endpoints are also looked at without anything having changed: servers go without a word.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Makes the namespaces that are missing.
pub async fn make_namespaces(api: &Api) -> Result<(), Status> {
    let all = place(api, NAMESPACES, "", "")?;
    for name in SYSTEM_NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        unless_there(api.create(&all, object, &WriteOptions::default()).await)?;
    }
    Ok(())
}

/// Tells the other servers that this one is there, for ever.
pub async fn be_present(api: &Api, identity: &str, address: IpAddr) {
    loop {
        if let Err(status) = renew(api, identity, address).await {
            tracing::warn!(error = status.message(), "the lease of this server cannot be renewed");
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

/// Says that this server goes.
pub async fn be_gone(api: &Api, identity: &str) -> Result<(), Status> {
    let lease = place(api, LEASES, "kube-system", identity)?;
    if_found(api.delete(&lease, &crate::api::options::DeleteOptions::default()).await).map(|_| ())
}

async fn renew(api: &Api, identity: &str, address: IpAddr) -> Result<(), Status> {
    let lease = place(api, LEASES, "kube-system", identity)?;
    let spec = json!({"holderIdentity": identity, "leaseDurationSeconds": ALIVE.as_secs(), "renewTime": MicroTime::now().to_string()});
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": identity, "labels": {IDENTITY: IDENTITY_VALUE}, "annotations": {ADDRESS: address.to_string()}},
        "spec": spec,
    });
    let change = |old: &Value| {
        let mut new = old.clone();
        for part in ["labels", "annotations"] {
            new["metadata"][part] = object["metadata"][part].clone();
        }
        new["spec"] = spec.clone();
        Ok(new)
    };
    if if_found(api.modify(&lease, Part::Main, None, &WriteOptions::default(), change).await)?
        .is_none()
    {
        let all = Place { name: String::new(), ..lease };
        unless_there(api.create(&all, object, &WriteOptions::default()).await)?;
    }
    Ok(())
}

/// Keeps `default/kubernetes` and its endpoints.
#[derive(Debug)]
pub struct Kubernetes {
    /// The service's address: the first of the service range.
    pub cluster_ip: IpAddr,
    /// The port that servers listen at.
    pub port: u16,
}

#[async_trait]
impl Controller for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes-service"
    }

    fn follows(&self, kind: &Kind) -> bool {
        matches!(
            &*kind.plural,
            "namespaces" | "services" | "endpoints" | "endpointslices" | "leases"
        )
    }

    fn concerned(&self, kind: &Kind, before: Option<&Value>, after: Option<&Value>) -> Vec<Key> {
        let is_ours = |object: &Value| {
            let meta = Meta::of(object);
            match &*kind.plural {
                "namespaces" => SYSTEM_NAMESPACES.contains(&meta.name()),
                "leases" => meta.label(IDENTITY) == Some(IDENTITY_VALUE),
                _ => meta.namespace() == "default" && meta.name() == "kubernetes",
            }
        };
        // a lease that is only renewed changes nothing
        let same_lease = kind.plural == "leases"
            && matches!((before, after), (Some(before), Some(after)) if address_of(before) == address_of(after));
        match before.or(after).filter(|object| is_ours(object)) {
            Some(_) if !same_lease => vec![Key::new(SERVICES, "default", "kubernetes")],
            _ => Vec::new(),
        }
    }

    async fn reconcile(&self, api: &Api, _: &Key) -> Result<Option<Duration>, Status> {
        make_namespaces(api).await?;
        let addresses = self.addresses(api).await?;
        put(api, SERVICES, &self.service(), |old, new| copy(old, new, &["/spec/ports"])).await?;
        put(api, ENDPOINTS, &self.endpoints(&addresses), |old, new| copy(old, new, &["/subsets"]))
            .await?;
        put(api, SLICES, &self.slice(&addresses), |old, new| {
            copy(old, new, &["/endpoints", "/ports", "/metadata/labels"])
        })
        .await?;
        Ok(Some(LOOK_EVERY))
    }
}

impl Kubernetes {
    /// The addresses of the servers that are alive, of the service's family.
    async fn addresses(&self, api: &Api) -> Result<BTreeSet<IpAddr>, Status> {
        let leases = place(api, LEASES, "kube-system", "")?;
        let all = api.list(&leases, &ListOptions::default()).await?.objects;
        let now = Timestamp::now();
        let alive = all.iter().filter(|lease| is_alive(lease, now)).filter_map(address_of);
        Ok(alive.filter(|address| address.is_ipv4() == self.cluster_ip.is_ipv4()).collect())
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "type": "ClusterIP", "clusterIP": self.cluster_ip.to_string(), "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": self.port}],
            },
        })
    }

    fn endpoints(&self, addresses: &BTreeSet<IpAddr>) -> Value {
        let list: Vec<Value> =
            addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
        let subsets = if list.is_empty() {
            json!([])
        } else {
            json!([{"addresses": list, "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}]}])
        };
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": subsets,
        })
    }

    fn slice(&self, addresses: &BTreeSet<IpAddr>) -> Value {
        let ready = json!({"ready": true});
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"addresses": [address.to_string()], "conditions": ready}))
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if self.cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": endpoints,
            "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
        })
    }
}

fn address_of(lease: &Value) -> Option<IpAddr> {
    (Meta::of(lease).label(IDENTITY) == Some(IDENTITY_VALUE)).then_some(())?;
    Meta::of(lease).annotation(ADDRESS)?.parse().ok()
}

fn is_alive(lease: &Value, now: Timestamp) -> bool {
    text(lease, "/spec/renewTime")
        .parse::<Timestamp>()
        .is_ok_and(|renewed| now.duration_since(renewed) < ALIVE)
}

/// Takes over parts of a wanted object; `None` when they are there already.
fn copy(old: &Value, wanted: &Value, pointers: &[&str]) -> Option<Value> {
    let mut new = old.clone();
    for pointer in pointers {
        let value = wanted.pointer(pointer).cloned().unwrap_or_default();
        match new.pointer_mut(pointer) {
            Some(slot) => *slot = value,
            None => set(&mut new, pointer, value),
        }
    }
    (new != *old).then_some(new)
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, field) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    if let Some(map) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        map.insert(field.to_owned(), value);
    }
}

/// Makes an object in `default`, or changes what is wrong with it.
async fn put(
    api: &Api,
    resource: (&str, &str, &str),
    wanted: &Value,
    mend: impl Fn(&Value, &Value) -> Option<Value> + Send + Sync,
) -> Result<(), Status> {
    let one = place(api, resource, "default", "kubernetes")?;
    let Some(found) = if_found(api.get(&one).await)? else {
        let all = Place { name: String::new(), ..one };
        return unless_there(api.create(&all, wanted.clone(), &WriteOptions::default()).await)
            .map(|_| ());
    };
    if mend(&found, wanted).is_some() {
        let change = |old: &Value| Ok(mend(old, wanted).unwrap_or_else(|| old.clone()));
        api.modify(&one, Part::Main, None, &WriteOptions::default(), change).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_the_servers() {
        let kubernetes =
            Kubernetes { cluster_ip: "10.96.0.1".parse().expect("an address"), port: 6443 };
        let addresses: BTreeSet<IpAddr> =
            ["10.0.0.2", "10.0.0.1"].map(|text| text.parse().expect("an address")).into();
        let slice = kubernetes.slice(&addresses);
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
        assert_eq!(
            kubernetes.endpoints(&addresses)["subsets"][0]["addresses"][1],
            json!({"ip": "10.0.0.2"})
        );
        assert_eq!(kubernetes.endpoints(&BTreeSet::new())["subsets"], json!([]));
    }

    #[test]
    fn only_what_is_wrong_is_changed() {
        let old = json!({"metadata": {"name": "a"}, "ports": [1], "mine": true});
        assert_eq!(copy(&old, &json!({"ports": [1]}), &["/ports"]), None);
        let new = copy(
            &old,
            &json!({"ports": [2], "metadata": {"labels": {"a": "b"}}}),
            &["/ports", "/metadata/labels"],
        );
        assert_eq!(
            new,
            Some(
                json!({"metadata": {"name": "a", "labels": {"a": "b"}}, "ports": [2], "mine": true})
            )
        );
    }

    #[test]
    fn a_server_that_is_silent_is_not_alive() {
        let lease = json!({"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}});
        assert!(is_alive(&lease, "2026-01-01T00:00:59Z".parse().expect("a time")));
        assert!(!is_alive(&lease, "2026-01-01T00:01:00Z".parse().expect("a time")));
    }
}
