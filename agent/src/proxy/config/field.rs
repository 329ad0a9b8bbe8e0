//! Every field of `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1) with the flags that set it.
//!
//! Source: `k8s.io/kube-proxy/config/v1alpha1`, `k8s.io/component-base/config/v1alpha1` and `logs/api/v1` of Kubernetes 1.33 to
//! 1.36, with the defaults of kube-proxy.

/// What a field's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number between two.
    Whole(i64, i64),
    /// A number with a fraction.
    Number,
    /// Any text.
    Text,
    /// A duration such as `30s`.
    Duration,
    /// A duration, or a number of nanoseconds.
    DurationOrNanoseconds,
    /// A list of texts; a flag has them with commas.
    List,
    /// Names with `true` or `false`; a flag has `a=true,b=false`.
    Gates,
    /// Verbosity by file: a list of objects; a flag has `file=2,other=3`.
    Modules,
}

impl Kind {
    /// What to write, for errors.
    pub fn expects(self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Number => "a number".into(),
            Self::Text => "text; write it in quotes".into(),
            Self::Duration => "a duration such as \"30s\" or \"1h0m0s\"".into(),
            Self::DurationOrNanoseconds => {
                "a duration such as \"5s\", or a number of nanoseconds".into()
            }
            Self::List => "a list of texts".into(),
            Self::Gates => "a map of names to true or false".into(),
            Self::Modules => "a list of {filePattern, verbosity}".into(),
        }
    }
}

/// What becomes of a field here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It does what it does in kube-proxy.
    Same,
    /// It changes nothing that anybody could notice; why, in words.
    Nothing(&'static str),
    /// It is not done here. Whoever sets it is told, and why that is.
    Warned(&'static str),
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its place in the file, dotted.
    pub path: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The default, as it would be written in YAML.
    pub default: &'static str,
    /// Whether a zero in the file (`""`, `0`, `0s`) means the default, as for Go's fields that are no pointers.
    pub zero_is_default: bool,
    /// The flags that set it, kube-proxy's own first.
    pub flags: &'static [&'static str],
    /// What becomes of it.
    pub usage: Use,
    /// One line of help.
    pub help: &'static str,
}

const fn field(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    flags: &'static [&'static str],
    help: &'static str,
) -> Field {
    Field { path, kind, default, zero_is_default: true, flags, usage: Use::Same, help }
}

impl Field {
    /// A field that is a pointer in Go: zero is a value of its own.
    const fn pointer(mut self) -> Self {
        self.zero_is_default = false;
        self
    }

    const fn nothing(mut self, why: &'static str) -> Self {
        self.usage = Use::Nothing(why);
        self
    }

    const fn warned(mut self, why: &'static str) -> Self {
        self.usage = Use::Warned(why);
        self
    }
}

const COUNT: Kind = Kind::Whole(0, i32::MAX as i64);
const BIT: Kind = Kind::Whole(0, 31);
const IPVS: &str = "only mode ipvs has a use for it";
const WINDOWS: &str = "only Windows has a use for it";
const JSON_OUTPUT: &str = "logs are one stream";

/// Every field, in the order of the API.
pub const FIELDS: &[Field] = &[
    field("featureGates", Kind::Gates, "{}", &["feature-gates"], "feature gates of kube-proxy")
        .warned("there are no feature gates here"),
    field(
        "clientConnection.kubeconfig",
        Kind::Text,
        "",
        &["kubeconfig"],
        "file that says how to reach the API server; without one the pod's service account",
    ),
    field("clientConnection.acceptContentTypes", Kind::Text, "", &[], "")
        .nothing("the API is spoken to in JSON"),
    field(
        "clientConnection.contentType",
        Kind::Text,
        "application/vnd.kubernetes.protobuf",
        &["kube-api-content-type"],
        "content type of requests to the API server",
    )
    .nothing("the API is spoken to in JSON"),
    field(
        "clientConnection.qps",
        Kind::Number,
        "5",
        &["kube-api-qps"],
        "requests per second to the API server",
    )
    .nothing("three watches ask for little"),
    field(
        "clientConnection.burst",
        COUNT,
        "10",
        &["kube-api-burst"],
        "burst of requests to the API server",
    )
    .nothing("three watches ask for little"),
    field(
        "logging.format",
        Kind::Text,
        "text",
        &["logging-format"],
        "form of the log: text or json",
    ),
    field(
        "logging.flushFrequency",
        Kind::DurationOrNanoseconds,
        "5s",
        &["log-flush-frequency"],
        "longest time between log flushes",
    )
    .nothing("each line is written at once"),
    field(
        "logging.verbosity",
        Kind::Whole(0, u32::MAX as i64),
        "0",
        &["v"],
        "how much is logged: from 4 on debug, from 8 on trace",
    ),
    field("logging.vmodule", Kind::Modules, "[]", &["vmodule"], "verbosity by source file")
        .warned("the files of this program are others; set logging.verbosity"),
    field(
        "logging.options.text.splitStream",
        Kind::Flag,
        "false",
        &["log-text-split-stream"],
        "errors to stderr, the rest to stdout",
    )
    .warned(JSON_OUTPUT),
    field(
        "logging.options.text.infoBufferSize",
        Kind::Text,
        "0",
        &["log-text-info-buffer-size"],
        "size of the log's buffer",
    )
    .nothing(JSON_OUTPUT),
    field(
        "logging.options.json.splitStream",
        Kind::Flag,
        "false",
        &["log-json-split-stream"],
        "errors to stderr, the rest to stdout",
    )
    .warned(JSON_OUTPUT),
    field(
        "logging.options.json.infoBufferSize",
        Kind::Text,
        "0",
        &["log-json-info-buffer-size"],
        "size of the log's buffer",
    )
    .nothing(JSON_OUTPUT),
    field(
        "hostnameOverride",
        Kind::Text,
        "",
        &["hostname-override", "node-name"],
        "name of this Node (default: the host's name)",
    ),
    field(
        "bindAddress",
        Kind::Text,
        "0.0.0.0",
        &["bind-address"],
        "this node's primary address, if it is not that of the Node object; nothing is bound to it",
    ),
    field(
        "healthzBindAddress",
        Kind::Text,
        "",
        &["healthz-bind-address"],
        "address and port of the health server (default: 0.0.0.0:10256; \"\" for none)",
    ),
    field(
        "metricsBindAddress",
        Kind::Text,
        "",
        &["metrics-bind-address"],
        "address and port of the metrics server (default: 127.0.0.1:10249; \"\" for none)",
    ),
    field(
        "bindAddressHardFail",
        Kind::Flag,
        "false",
        &["bind-address-hard-fail"],
        "end if a server's port is taken",
    ),
    field("enableProfiling", Kind::Flag, "false", &["profiling"], "profiles of Go at /debug/pprof")
        .warned("there is no /debug/pprof here"),
    field(
        "showHiddenMetricsForVersion",
        Kind::Text,
        "",
        &["show-hidden-metrics-for-version"],
        "show metrics that a version hid",
    )
    .warned("no metric is hidden here"),
    field(
        "mode",
        Kind::Text,
        "iptables",
        &["proxy-mode", "mode"],
        "what writes the rules: iptables or nftables",
    ),
    field(
        "iptables.masqueradeBit",
        BIT,
        "14",
        &["iptables-masquerade-bit"],
        "bit of the packet mark that asks for masquerading, of either mode",
    )
    .pointer(),
    field(
        "iptables.masqueradeAll",
        Kind::Flag,
        "false",
        &["masquerade-all"],
        "masquerade whatever goes to a cluster address, in either mode",
    ),
    field(
        "iptables.localhostNodePorts",
        Kind::Flag,
        "true",
        &["iptables-localhost-nodeports"],
        "whether node ports answer at 127.0.0.1 (iptables mode, IPv4)",
    )
    .pointer(),
    field(
        "iptables.snatNodeInternalIP",
        Kind::Flag,
        "false",
        &[],
        "masquerade with the node's InternalIP",
    )
    .pointer()
    .warned("traffic is masqueraded with the address of the interface that it leaves by"),
    field(
        "iptables.syncPeriod",
        Kind::Duration,
        "30s",
        &["iptables-sync-period"],
        "how often everything is compared with the kernel, in either mode",
    ),
    field(
        "iptables.minSyncPeriod",
        Kind::Duration,
        "0s",
        &["iptables-min-sync-period"],
        "least time between two syncs, in either mode; 0: a change is followed at once",
    ),
    field("ipvs.syncPeriod", Kind::Duration, "30s", &["ipvs-sync-period"], "").nothing(IPVS),
    field("ipvs.minSyncPeriod", Kind::Duration, "0s", &["ipvs-min-sync-period"], "").nothing(IPVS),
    field("ipvs.scheduler", Kind::Text, "", &["ipvs-scheduler"], "").nothing(IPVS),
    field("ipvs.excludeCIDRs", Kind::List, "[]", &["ipvs-exclude-cidrs"], "").nothing(IPVS),
    field("ipvs.strictARP", Kind::Flag, "false", &["ipvs-strict-arp"], "").nothing(IPVS),
    field("ipvs.tcpTimeout", Kind::Duration, "0s", &["ipvs-tcp-timeout"], "").nothing(IPVS),
    field("ipvs.tcpFinTimeout", Kind::Duration, "0s", &["ipvs-tcpfin-timeout"], "").nothing(IPVS),
    field("ipvs.udpTimeout", Kind::Duration, "0s", &["ipvs-udp-timeout"], "").nothing(IPVS),
    field("nftables.masqueradeBit", BIT, "14", &["iptables-masquerade-bit"], "").pointer(),
    field("nftables.masqueradeAll", Kind::Flag, "false", &["masquerade-all"], ""),
    field("nftables.syncPeriod", Kind::Duration, "30s", &["iptables-sync-period"], ""),
    field("nftables.minSyncPeriod", Kind::Duration, "0s", &["iptables-min-sync-period"], ""),
    field("winkernel.networkName", Kind::Text, "", &[], "").nothing(WINDOWS),
    field("winkernel.sourceVip", Kind::Text, "", &[], "").nothing(WINDOWS),
    field("winkernel.enableDSR", Kind::Flag, "false", &[], "").nothing(WINDOWS),
    field("winkernel.rootHnsEndpointName", Kind::Text, "", &[], "").nothing(WINDOWS),
    field("winkernel.forwardHealthCheckVip", Kind::Flag, "false", &[], "").nothing(WINDOWS),
    field(
        "detectLocalMode",
        Kind::Text,
        "ClusterCIDR",
        &["detect-local-mode"],
        "how traffic of this node's pods is recognised: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix",
    ),
    field(
        "detectLocal.bridgeInterface",
        Kind::Text,
        "",
        &["pod-bridge-interface"],
        "the pods' bridge, for BridgeInterface",
    ),
    field(
        "detectLocal.interfaceNamePrefix",
        Kind::Text,
        "",
        &["pod-interface-name-prefix"],
        "what the names of the pods' interfaces begin with, for InterfaceNamePrefix",
    ),
    field(
        "clusterCIDR",
        Kind::Text,
        "",
        &["cluster-cidr"],
        "addresses of all pods, one range per family with a comma between, for ClusterCIDR",
    ),
    field(
        "nodePortAddresses",
        Kind::List,
        "[]",
        &["nodeport-addresses"],
        "where node ports answer: ranges, primary, localhost, all (default: all; nftables mode: primary)",
    ),
    field(
        "oomScoreAdj",
        Kind::Whole(-1000, 1000),
        "-999",
        &["oom-score-adj"],
        "how early the kernel ends this process when memory runs out",
    )
    .pointer(),
    field(
        "conntrack.maxPerCore",
        COUNT,
        "32768",
        &["conntrack-max-per-core"],
        "tracked connections per processor; 0: leave the kernel's limit",
    )
    .pointer(),
    field("conntrack.min", COUNT, "131072", &["conntrack-min"], "tracked connections at least")
        .pointer(),
    field(
        "conntrack.tcpEstablishedTimeout",
        Kind::Duration,
        "24h0m0s",
        &["conntrack-tcp-timeout-established"],
        "time-out of idle TCP connections; 0: leave the kernel's",
    )
    .pointer(),
    field(
        "conntrack.tcpCloseWaitTimeout",
        Kind::Duration,
        "1h0m0s",
        &["conntrack-tcp-timeout-close-wait"],
        "time-out of TCP connections in CLOSE_WAIT; 0: leave the kernel's",
    )
    .pointer(),
    field(
        "conntrack.tcpBeLiberal",
        Kind::Flag,
        "false",
        &["conntrack-tcp-be-liberal"],
        "accept TCP packets out of window",
    ),
    field(
        "conntrack.udpTimeout",
        Kind::Duration,
        "0s",
        &["conntrack-udp-timeout"],
        "time-out of UDP flows without an answer; 0: leave the kernel's",
    ),
    field(
        "conntrack.udpStreamTimeout",
        Kind::Duration,
        "0s",
        &["conntrack-udp-timeout-stream"],
        "time-out of answered UDP flows; 0: leave the kernel's",
    ),
    field(
        "configSyncPeriod",
        Kind::Duration,
        "15m0s",
        &["config-sync-period"],
        "how often kube-proxy goes through its own cache",
    )
    .nothing("there is no cache to go through"),
    field("portRange", Kind::Text, "", &[], "").nothing("kube-proxy does not use it either"),
    field("windowsRunAsService", Kind::Flag, "false", &[], "").nothing(WINDOWS),
];

/// The field at a path.
pub fn find(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}
