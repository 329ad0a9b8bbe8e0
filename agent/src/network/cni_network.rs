//! Pods connected by CNI plugins.

use std::path::{Path, PathBuf};

use cni::runtime::{Attachment, NetworkList, PluginEntry, Runtime};
use cni::{CniResult, Dns};
use conf::CniConfig;
use netns_tools::cause::one_line;
use netns_tools::netns::NETNS_DIR;
use netns_tools::{NetNs, Netlink};

use super::{Attached, Network, NetworkError, PortMapping};
use crate::runtime::PodRef;

/// What our namespaces' names begin with.
const PREFIX: &str = "heddle-";
/// The interface that Kubernetes runtimes give a pod.
const INTERFACE: &str = "eth0";
/// The capability for ports of the node (CONVENTIONS.md).
const PORT_MAPPINGS: &str = "portMappings";

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
    fn set_up(&self, pod: &PodRef, ports: &[PortMapping]) -> Result<Attached, NetworkError> {
        let list = self.list()?;
        let attachment = with_ports(attachment(pod), ports, &list)?;
        self.tear_down(pod)?;
        let name = netns_name(pod);
        let ns = NetNs::create(&name).map_err(|error| NetworkError::Namespace(one_line(&error)))?;
        let added = loopback_up(&ns).and_then(|()| {
            self.runtime
                .add(&list, &attachment)
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

/// A runtime passes a capability only to plugins that declare it; with none, the ports would silently lead nowhere.
fn with_ports(
    mut attachment: Attachment,
    ports: &[PortMapping],
    list: &NetworkList,
) -> Result<Attachment, NetworkError> {
    if ports.is_empty() {
        return Ok(attachment);
    }
    let declared =
        |plugin: &PluginEntry| plugin.capabilities.iter().any(|name| name == PORT_MAPPINGS);
    if !list.plugins.iter().any(declared) {
        return Err(NetworkError::NoPortMappings(list.path.clone()));
    }
    attachment.capabilities.insert(PORT_MAPPINGS.to_owned(), serde_json::json!(ports));
    Ok(attachment)
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
        let error = CniNetwork::new(&config).set_up(&PodRef::default(), &[]).unwrap_err();
        assert_eq!(error.reason(), "NetworkNotReady");
        assert!(error.to_string().contains("/nowhere/net.d"), "{error}");
    }

    #[test]
    fn host_ports_need_a_plugin_that_maps_them() {
        let list = |plugins: serde_json::Value| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("list.conflist");
            let list =
                serde_json::json!({ "cniVersion": "1.0.0", "name": "n", "plugins": plugins });
            std::fs::write(&path, list.to_string()).unwrap();
            NetworkList::load(&path).unwrap()
        };
        let ports = [PortMapping {
            host_port: 80,
            container_port: 8080,
            protocol: crate::proxy::model::Protocol::Udp,
            host_ip: Some("10.0.0.1".parse().unwrap()),
        }];
        let without = list(serde_json::json!([{ "type": "bridge" }]));
        let error = with_ports(attachment(&PodRef::default()), &ports, &without).unwrap_err();
        assert!(error.to_string().contains("add portmap"), "{error}");
        assert!(with_ports(attachment(&PodRef::default()), &[], &without).is_ok());
        let with = list(serde_json::json!([
            { "type": "bridge" }, { "type": "portmap", "capabilities": { "portMappings": true } },
        ]));
        let attachment = with_ports(attachment(&PodRef::default()), &ports, &with).unwrap();
        assert_eq!(
            attachment.capabilities["portMappings"],
            serde_json::json!([{ "hostPort": 80, "containerPort": 8080, "protocol": "udp", "hostIP": "10.0.0.1" }])
        );
    }
}
