//! The keys of the agent's configuration.

/// What a key's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// An absolute path.
    Path,
    /// A list of absolute paths.
    Paths,
    /// `true` or `false`.
    Flag,
    /// A whole number of seconds, at least 1.
    Seconds,
    /// One address with a prefix, such as `10.244.0.0/16`, or one of each family with a comma between.
    Cidrs,
    /// Two ports with a dash between.
    Ports,
    /// An address and a port; `""` for none.
    Address,
    /// What writes rules: `iptables` or `nftables`.
    Mode,
    /// A name by RFC 1123.
    DnsName,
    /// What containerd takes for a name.
    Identifier,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    Level,
    /// How packets travel to other nodes: `auto`, `vxlan`, `host-gw` or `none`.
    Backend,
    /// An absolute path, `in-cluster`, or `""` for none.
    Kubeconfig,
    /// The name of a link (`dev_valid_name` in net/core/dev.c), an address, or `""`.
    Interface,
    /// A VXLAN network identifier: 24 bits (RFC 7348), not 0.
    Vni,
    /// A UDP port.
    Port,
    /// A UDP port, or 0 for none.
    PortOrNone,
    /// Bytes, or 0.
    Mtu,
    /// Any number of addresses with prefixes, with commas between.
    Ranges,
    /// `auto`, `on` or `off`.
    Switch,
}

impl Kind {
    /// What to write, for help and for errors.
    pub const fn expects(self) -> &'static str {
        match self {
            Self::Text => "a text that is not empty",
            Self::Path => "an absolute path",
            Self::Paths => "a list of absolute paths",
            Self::Flag => "true or false",
            Self::Seconds => "a whole number of seconds, at least 1",
            Self::Cidrs => {
                "a network such as \"10.244.0.0/16\", or one of each family such as \"10.244.0.0/16,fd00:244::/56\""
            }
            Self::Ports => "a range of ports such as \"30000-32767\"",
            Self::Address => "an address and a port such as \"127.0.0.1:10248\", or \"\" for none",
            Self::Mode => "\"iptables\" or \"nftables\"",
            Self::DnsName => "a name of lower-case letters, digits, '-' and '.', at most 253",
            Self::Identifier => "a name of letters, digits, '-', '_' and '.', at most 76",
            Self::Level => "one of error, warn, info, debug, trace",
            Self::Backend => "\"auto\", \"vxlan\", \"host-gw\" or \"none\"",
            Self::Kubeconfig => {
                "an absolute path, \"in-cluster\" for the service account of a pod, or \"\" for the Node manifests in paths.manifests"
            }
            Self::Interface => {
                "the name of a link (at most 15 characters, no '/', ':' or space), an address of one, or \"\""
            }
            Self::Vni => "a whole number from 1 to 16777215",
            Self::Port => "a port: a whole number from 1 to 65535",
            Self::PortOrNone => "a port: a whole number from 1 to 65535, or 0 for none",
            Self::Mtu => {
                "a whole number of bytes from 576 to 65535, or 0 for what the underlay allows"
            }
            Self::Ranges => {
                "networks such as \"10.0.0.0/8,fd00::/8\" with commas between, or \"\" for none"
            }
            Self::Switch => "\"auto\", \"on\" or \"off\"",
        }
    }

    /// Whether a file has it as a number.
    pub(crate) const fn is_number(self) -> bool {
        matches!(self, Self::Seconds | Self::Vni | Self::Port | Self::PortOrNone | Self::Mtu)
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its place in the file, dotted; the flag is the same with dashes.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The default, as it would be written in the file; a list with commas.
    pub default: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// A program that reads keys. A file may have those of all programs; a flag must be of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// `heddle-agent run`, and `check-config`, which checks for it.
    Run,
    /// `heddle-agent overlay`.
    Overlay,
}

impl Reader {
    /// As it is called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "heddle-agent run",
            Self::Overlay => "heddle-agent overlay",
        }
    }
}

impl Key {
    /// The flag's name, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// Whether the program reads it.
    pub fn is_read_by(&self, reader: Reader) -> bool {
        match reader {
            // the overlay is part of its own status there
            Reader::Run => self.name != "overlay.socket",
            Reader::Overlay => {
                let own = self.name.starts_with("overlay.") && self.name != "overlay.enabled";
                own || OF_THE_OVERLAY.contains(&self.name)
            }
        }
    }
}

/// What the overlay reads besides its own keys.
const OF_THE_OVERLAY: [&str; 5] =
    ["node_name", "paths.manifests", "paths.state", "network.pod_cidr", "log.level"];

const fn key(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, help }
}

/// Every key. An empty default of `node_name` stands for the host's name.
pub const KEYS: &[Key] = &[
    key("node_name", Kind::DnsName, "", "name of this node (default: the host's name)"),
    key(
        "paths.manifests",
        Kind::Path,
        "/etc/heddle/manifests",
        "folder of Pod, Service and EndpointSlice manifests",
    ),
    key(
        "paths.state",
        Kind::Path,
        "/var/lib/heddle/agent",
        "what the agent must know after a restart",
    ),
    key("paths.logs", Kind::Path, "/var/log/pods", "folder of the containers' logs"),
    key("paths.socket", Kind::Path, "/run/heddle/agent.sock", "socket that `status` asks"),
    key(
        "cni.conf_dir",
        Kind::Path,
        "/etc/cni/net.d",
        "folder of network lists; the first in lexical order is used",
    ),
    key("cni.bin_dirs", Kind::Paths, "/opt/cni/bin", "folders of CNI plugins, in order"),
    key("cni.cache_dir", Kind::Path, "/var/lib/cni", "folder of cached CNI results"),
    key("cni.timeout_seconds", Kind::Seconds, "60", "how long one plugin call may take"),
    key("containerd.socket", Kind::Path, "/run/containerd/containerd.sock", "containerd's socket"),
    key(
        "containerd.namespace",
        Kind::Identifier,
        "heddle",
        "containerd namespace of our containers; one per agent",
    ),
    key(
        "containerd.snapshotter",
        Kind::Text,
        "overlayfs",
        "snapshotter for the containers' file systems",
    ),
    key(
        "network.pod_cidr",
        Kind::Cidrs,
        "10.244.0.0/16",
        "addresses of all pods; for both families two ranges with a comma between",
    ),
    key(
        "network.service_cidr",
        Kind::Cidrs,
        "10.96.0.0/12",
        "addresses of services; for both families two ranges with a comma between, the first one's family is the default",
    ),
    key("network.node_ports", Kind::Ports, "30000-32767", "ports of NodePort services"),
    key(
        "pods.termination_grace_seconds",
        Kind::Seconds,
        "30",
        "time between SIGTERM and SIGKILL for pods that do not say",
    ),
    key("proxy.enabled", Kind::Flag, "true", "whether to write rules for services"),
    key(
        "proxy.mode",
        Kind::Mode,
        "iptables",
        "what the rules are written with: iptables or nftables",
    ),
    key(
        "proxy.metrics_bind_address",
        Kind::Address,
        "127.0.0.1:10249",
        "where /metrics, /proxyMode and /configz of the proxy answer",
    ),
    key(
        "proxy.healthz_bind_address",
        Kind::Address,
        "0.0.0.0:10256",
        "where /healthz and /livez of the proxy answer, for load balancers; 0.0.0.0 is every address of both families",
    ),
    key(
        "proxy.bind_address_hard_fail",
        Kind::Flag,
        "false",
        "end if one of these two ports is taken, instead of trying it again every 5 s",
    ),
    key(
        "overlay.enabled",
        Kind::Flag,
        "false",
        "whether `run` connects pods of different nodes; `heddle-agent overlay` does it whatever this says",
    ),
    key(
        "overlay.backend",
        Kind::Backend,
        "auto",
        "how packets travel to other nodes: vxlan, host-gw (plain routes), auto (plain routes on one link, VXLAN elsewhere), none",
    ),
    key(
        "overlay.kubeconfig",
        Kind::Kubeconfig,
        "",
        "where Nodes come from: a kubeconfig, \"in-cluster\" for a pod's service account, \"\" for Node manifests in paths.manifests",
    ),
    key(
        "overlay.interface",
        Kind::Interface,
        "",
        "link to other nodes, by name or address (default: the one with this Node's InternalIP, else that of the default route)",
    ),
    key("overlay.vni", Kind::Vni, "1", "VXLAN network identifier; the same on all nodes"),
    key("overlay.port", Kind::Port, "8472", "UDP port of VXLAN; the same on all nodes"),
    key(
        "overlay.mtu",
        Kind::Mtu,
        "0",
        "MTU of pods, in bytes; 0: the underlay's, less what VXLAN takes",
    ),
    key(
        "overlay.masquerade",
        Kind::Flag,
        "true",
        "whether pods speak to the world outside by this node's address",
    ),
    key(
        "overlay.no_masquerade",
        Kind::Ranges,
        "",
        "ranges to which pods speak by their own addresses, besides those of pods",
    ),
    key(
        "overlay.flannel",
        Kind::Flag,
        "false",
        "whether nodes that run flannel are peers: its annotations are read and written",
    ),
    key(
        "overlay.lease",
        Kind::Path,
        "/run/heddle/subnet.env",
        "file that tells the CNI plugin this node's pod ranges and MTU",
    ),
    key(
        "overlay.probe_port",
        Kind::PortOrNone,
        "8473",
        "UDP port at which nodes probe each other through the tunnel; 0: they do not",
    ),
    key(
        "overlay.checksum_offload",
        Kind::Switch,
        "auto",
        "whether the VXLAN device leaves checksums to the hardware: on, off, auto (off where it is found broken)",
    ),
    key(
        "overlay.socket",
        Kind::Path,
        "/run/heddle/overlay.sock",
        "socket of `heddle-agent overlay` for `status --socket`",
    ),
    key(
        "overlay.metrics_bind_address",
        Kind::Address,
        "127.0.0.1:10247",
        "where /metrics and /healthz of the overlay answer",
    ),
    key("health.address", Kind::Address, "127.0.0.1:10248", "where /healthz answers"),
    key("log.level", Kind::Level, "info", "how much the agent logs"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The file that is shipped has every key, commented out, with its default.
    #[test]
    fn the_shipped_file_has_every_key() {
        let text = include_str!("../agent.toml");
        let mut table = String::new();
        let mut found = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                table = format!("{name}.");
            }
            if let Some((name, value)) =
                line.strip_prefix("# ").and_then(|rest| rest.split_once(" = "))
                && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            {
                found.push((
                    format!("{table}{name}"),
                    value.trim_matches(['[', ']', '"']).to_owned(),
                ));
            }
        }
        let expected = KEYS.iter().map(|key| (key.name.to_owned(), key.default.to_owned()));
        let (mut expected, node_name): (Vec<_>, Vec<_>) =
            expected.partition(|(name, _)| name != "node_name");
        // its default is the host's name, so the file has an example
        found.retain(|(name, _)| *name != node_name[0].0);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }
}
