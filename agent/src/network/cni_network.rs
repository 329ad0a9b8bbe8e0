//! Pods connected by CNI plugins.

use std::path::{Path, PathBuf};

use cni::runtime::{Attachment, NetworkList, Runtime};
use cni::{CniResult, Dns};
use conf::CniConfig;
use netns_tools::cause::one_line;
use netns_tools::netns::NETNS_DIR;
use netns_tools::{NetNs, Netlink};

use super::{Attached, Network, NetworkError};
use crate::runtime::PodRef;

/// What our namespaces' names begin with.
const PREFIX: &str = "heddle-";
/// The interface that Kubernetes runtimes give a pod.
const INTERFACE: &str = "eth0";

/// Networks by the first list of a folder.
#[derive(Debug)]
pub struct CniNetwork {
    conf_dir: PathBuf,
    runtime: Runtime,
}

impl CniNetwork {
    /// From the agent's configuration.
    pub fn new(config: &CniConfig) -> Self {
        let runtime =
            Runtime::new(config.bin_dirs.clone(), &config.cache_dir).with_timeout(config.timeout);
        Self { conf_dir: config.conf_dir.clone(), runtime }
    }

    fn list(&self) -> Result<NetworkList, NetworkError> {
        NetworkList::load_first(&self.conf_dir)
            .map_err(|error| NetworkError::NotConfigured(one_line(&error)))
    }

    /// Removes by the cache; the list stands in for an ADD that never came to write it.
    fn detach(&self, pod: &PodRef) -> Result<(), NetworkError> {
        let attachment = attachment(pod);
        let (cached, _) = self.runtime.cached_all();
        let known = cached.iter().any(|cached| cached.attachment.container_id == pod.uid);
        let list = if known { None } else { self.list().ok() };
        if !known && list.is_none() {
            return Ok(());
        }
        self.runtime
            .del(list.as_ref(), &attachment)
            .map_err(|error| NetworkError::Plugin(one_line(&error)))
    }
}

/// The name of a pod's namespace.
pub fn netns_name(pod: &PodRef) -> String {
    format!("{PREFIX}{}", pod.uid)
}

/// With what the kubelet's runtimes put into `CNI_ARGS`.
fn attachment(pod: &PodRef) -> Attachment {
    let path = Path::new(NETNS_DIR).join(netns_name(pod));
    let mut attachment = Attachment::new(pod.uid.clone(), Some(path), INTERFACE);
    attachment.args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &pod.uid),
        ("K8S_POD_UID", &pod.uid),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    attachment
}

impl Network for CniNetwork {
    fn set_up(&self, pod: &PodRef) -> Result<Attached, NetworkError> {
        let list = self.list()?;
        self.tear_down(pod)?;
        let name = netns_name(pod);
        let ns = NetNs::create(&name).map_err(|error| NetworkError::Namespace(one_line(&error)))?;
        let added = loopback_up(&ns).and_then(|()| {
            self.runtime
                .add(&list, &attachment(pod))
                .map_err(|error| NetworkError::Plugin(one_line(&error)))
        });
        match added {
            Ok(result) => Ok(attached(ns.path().to_owned(), &result)),
            Err(error) => {
                // the specification asks for a DEL after an ADD that failed; its own failure would hide the reason
                if let Err(second) = self.tear_down(pod) {
                    tracing::warn!(pod = pod.name, error = %second, "cannot undo a failed ADD; tried again later");
                }
                Err(error)
            }
        }
    }

    fn current(&self, pod: &PodRef) -> Option<Attached> {
        let ns = NetNs::named(&netns_name(pod)).ok()?;
        let (cached, _) = self.runtime.cached_all();
        let own = cached.into_iter().find(|cached| cached.attachment.container_id == pod.uid)?;
        Some(attached(ns.path().to_owned(), &own.cni_result().ok()?))
    }

    fn tear_down(&self, pod: &PodRef) -> Result<(), NetworkError> {
        self.detach(pod)?;
        let deleted = NetNs::delete(&netns_name(pod));
        deleted.map(drop).map_err(|error| NetworkError::Namespace(one_line(&error)))
    }

    fn collect(&self, pods: &[PodRef]) -> Result<(), NetworkError> {
        let list = self.list()?;
        let mut valid: Vec<_> =
            pods.iter().map(|pod| (pod.uid.clone(), INTERFACE.to_owned())).collect();
        let (cached, _) = self.runtime.cached_all();
        // another agent, or another runtime, may share the network: what still has its namespace is somebody's
        let in_use = cached.into_iter().map(|cached| cached.attachment).filter(|attachment| {
            attachment.netns.as_deref().is_some_and(|path| NetNs::open(path).is_ok())
        });
        valid.extend(in_use.map(|attachment| (attachment.container_id, attachment.ifname)));
        self.runtime.gc(&list, &valid).map_err(|error| NetworkError::Plugin(one_line(&error)))
    }
}

/// Every pod has a loopback interface. Set up directly: a plugin for one netlink request would cost a process per pod.
fn loopback_up(ns: &NetNs) -> Result<(), NetworkError> {
    let up = || {
        let mut netlink = Netlink::open_in(ns)?;
        match netlink.link("lo")? {
            Some(lo) => netlink.set_up(lo.index),
            None => Ok(()),
        }
    };
    up().map_err(|error: netns_tools::NetlinkError| NetworkError::Namespace(one_line(&error)))
}

fn attached(netns: PathBuf, result: &CniResult) -> Attached {
    Attached {
        netns,
        ips: result.ips.iter().map(|ip| ip.address.ip()).collect(),
        resolv_conf: resolv_conf(&result.dns),
    }
}

/// What the network says of names, or what the node itself uses.
fn resolv_conf(dns: &Dns) -> String {
    if dns.nameservers.is_empty() {
        return std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    }
    let mut text = String::new();
    for server in &dns.nameservers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let mut line = |word: &str, values: &[String]| {
        if !values.is_empty() {
            text.push_str(&format!("{word} {}\n", values.join(" ")));
        }
    };
    line(
        "search",
        if dns.search.is_empty() && !dns.domain.is_empty() {
            std::slice::from_ref(&dns.domain)
        } else {
            &dns.search
        },
    );
    line("options", &dns.options);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_as_the_network_says() {
        let dns = Dns {
            nameservers: vec!["10.96.0.10".into()],
            domain: "local".into(),
            ..Dns::default()
        };
        assert_eq!(resolv_conf(&dns), "nameserver 10.96.0.10\nsearch local\n");
    }

    #[test]
    fn without_a_list_the_folder_is_named() {
        let config = CniConfig {
            conf_dir: "/nowhere/net.d".into(),
            bin_dirs: vec!["/nowhere".into()],
            cache_dir: "/nowhere".into(),
            timeout: std::time::Duration::from_secs(1),
        };
        let error = CniNetwork::new(&config).set_up(&PodRef::default()).unwrap_err();
        assert_eq!(error.reason(), "NetworkNotReady");
        assert!(error.to_string().contains("/nowhere/net.d"), "{error}");
    }
}
