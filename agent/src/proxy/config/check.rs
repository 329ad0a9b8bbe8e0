//! From what was written to what holds.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use conf::Mistake;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use super::field::{FIELDS, Kind, Use};
use super::layer::{API_VERSION, Given, KIND, Layer};
use super::{
    ApiAccess, DetectLocal, Loaded, LogSettings, Mode, NodePortSelection, ProxyConfig, duration,
};
use crate::proxy::host::ConntrackConfig;
use crate::proxy::options::Pace;

const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

/// Lays the later layers over the earlier ones and checks all of it.
pub fn check(
    layers: impl IntoIterator<Item = Layer>,
    master: Option<&str>,
    host_name: &str,
) -> Result<Loaded, Vec<Mistake>> {
    let mut values = Values { given: BTreeMap::new(), mistakes: Vec::new() };
    for layer in layers {
        values.given.extend(layer.values);
        values.mistakes.extend(layer.mistakes);
    }
    let config = values.config(master, host_name);
    if !values.mistakes.is_empty() {
        return Err(values.mistakes);
    }
    let warnings = values.warnings(&config);
    let document = values.document(&config);
    Ok(Loaded { config, warnings, document })
}

struct Values {
    given: BTreeMap<&'static str, Given>,
    mistakes: Vec<Mistake>,
}

impl Values {
    /// What holds for a field: what was given, or its default.
    fn get(&self, path: &str) -> Value {
        if let Some(given) = self.given.get(path) {
            return given.value.clone();
        }
        let field = super::field::find(path).expect("every path that is asked for is in the table");
        match field.kind {
            Kind::Text | Kind::Duration | Kind::DurationOrNanoseconds => json!(field.default),
            _ => serde_json::from_str(field.default).expect("the table's defaults are JSON"),
        }
    }

    fn text(&self, path: &str) -> String {
        self.get(path).as_str().unwrap_or_default().to_owned()
    }

    fn flag(&self, path: &str) -> bool {
        self.get(path).as_bool().unwrap_or_default()
    }

    fn whole<T: TryFrom<i64> + Default>(&self, path: &str) -> T {
        let number = self.get(path).as_i64().unwrap_or_default();
        T::try_from(number).unwrap_or_default()
    }

    fn duration(&self, path: &str) -> Duration {
        duration::parse(&self.text(path)).unwrap_or_default()
    }

    fn mistake(&mut self, path: &str, reason: impl Into<String>) {
        let place =
            self.given.get(path).map_or_else(|| path.to_owned(), |given| given.place.clone());
        let mistake = Mistake { place, reason: reason.into() };
        // one flag may set several fields
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    fn config(&mut self, master: Option<&str>, host_name: &str) -> ProxyConfig {
        let mode = self.mode();
        let (bit, all, pace) = match mode {
            Mode::Iptables => {
                ("iptables.masqueradeBit", "iptables.masqueradeAll", self.pace("iptables"))
            }
            Mode::Nftables => {
                ("nftables.masqueradeBit", "nftables.masqueradeAll", self.pace("nftables"))
            }
        };
        let bind = self.bind_address();
        let is_v6 = bind.is_ipv6();
        ProxyConfig {
            mode,
            node_name: self.node_name(host_name),
            api: self.api(master),
            bind_address: Some(bind).filter(|ip| !ip.is_unspecified()),
            healthz: self.address("healthzBindAddress", unspecified(is_v6), HEALTHZ_PORT),
            metrics: self.address("metricsBindAddress", localhost(is_v6), METRICS_PORT),
            bind_hard_fail: self.flag("bindAddressHardFail"),
            masquerade_bit: self.whole(bit),
            masquerade_all: self.flag(all),
            localhost_node_ports: self.flag("iptables.localhostNodePorts"),
            detect_local: self.detect_local(),
            node_ports: self.node_ports(mode),
            pace,
            conntrack: self.conntrack(),
            oom_score_adj: self.whole("oomScoreAdj"),
            log: self.log(),
        }
    }

    fn mode(&mut self) -> Mode {
        let remedy = "use iptables or nftables";
        match self.text("mode").as_str() {
            "iptables" | "" => return Mode::Iptables,
            "nftables" => return Mode::Nftables,
            "ipvs" => self.mistake(
                "mode",
                format!("mode ipvs is not offered, and Kubernetes gives it up; {remedy}: nftables is as fast with many services"),
            ),
            "kernelspace" => self.mistake("mode", format!("mode kernelspace is for Windows; {remedy}")),
            other => self.mistake("mode", format!("{other:?} is no mode; {remedy}")),
        }
        Mode::Iptables
    }

    fn node_name(&mut self, host_name: &str) -> String {
        let set = self.text("hostnameOverride").trim().to_lowercase();
        let name = if set.is_empty() { host_name.trim().to_lowercase() } else { set };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
            self.mistake("hostnameOverride", format!("{name:?} is not the name of a Node: lower-case letters, digits, '-' and '.', at most 253; set --hostname-override"));
        }
        name
    }

    fn api(&mut self, master: Option<&str>) -> ApiAccess {
        let file = self.text("clientConnection.kubeconfig");
        let is_url = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        if master.is_some_and(|url| !url.is_empty() && !is_url(url)) {
            self.mistakes.push(Mistake {
                place: "--master".into(),
                reason: format!(
                    "{:?} is no URL such as https://10.0.0.1:6443",
                    master.unwrap_or_default()
                ),
            });
        }
        ApiAccess {
            kubeconfig: Some(PathBuf::from(file)).filter(|file| !file.as_os_str().is_empty()),
            master: master.filter(|url| !url.is_empty()).map(str::to_owned),
        }
    }

    fn bind_address(&mut self) -> IpAddr {
        let text = self.text("bindAddress");
        text.parse().unwrap_or_else(|_| {
            self.mistake(
                "bindAddress",
                format!("{text:?} is no IP address; leave it out, as only few hosts need it"),
            );
            unspecified(false)
        })
    }

    /// kube-proxy takes an address without a port, too. Empty: there is no such server, if a flag says so; a file cannot.
    fn address(&mut self, path: &'static str, ip: IpAddr, port: u16) -> Option<SocketAddr> {
        let text = match self.given.get(path) {
            None => return Some(SocketAddr::new(ip, port)),
            Some(_) => self.text(path),
        };
        if text.is_empty() {
            return None;
        }
        let alone = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let alone = alone.map(|ip| SocketAddr::new(ip, port));
        let parsed = text.parse::<SocketAddr>().or(alone).ok().filter(|parsed| parsed.port() > 0);
        if parsed.is_none() {
            self.mistake(
                path,
                format!(
                    "{text:?} is no address and port such as \"0.0.0.0:{port}\" or \"[::]:{port}\""
                ),
            );
        }
        parsed
    }

    fn pace(&mut self, mode: &str) -> Pace {
        let (least, resync) = (format!("{mode}.minSyncPeriod"), format!("{mode}.syncPeriod"));
        let pace = Pace { least: self.duration(&least), resync: self.duration(&resync) };
        if pace.resync.is_zero() {
            self.mistake(&resync, "must be more than 0, such as \"30s\"");
        } else if pace.least > pace.resync {
            let written = duration::format(pace.least);
            self.mistake(
                &resync,
                format!("must not be less than minSyncPeriod, which is {written}"),
            );
        }
        pace
    }

    fn detect_local(&mut self) -> DetectLocal {
        let ranges = self.cluster_cidrs();
        let bridge = self.interface("detectLocal.bridgeInterface");
        let prefix = self.interface("detectLocal.interfaceNamePrefix");
        match self.text("detectLocalMode").as_str() {
            "ClusterCIDR" | "" => DetectLocal::ClusterCidr(ranges),
            "NodeCIDR" => DetectLocal::NodeCidr,
            "BridgeInterface" => {
                self.required(
                    "detectLocal.bridgeInterface",
                    &bridge,
                    "--pod-bridge-interface cni0",
                );
                DetectLocal::Bridge(bridge)
            }
            "InterfaceNamePrefix" => {
                self.required(
                    "detectLocal.interfaceNamePrefix",
                    &prefix,
                    "--pod-interface-name-prefix veth",
                );
                DetectLocal::InterfacePrefix(prefix)
            }
            other => {
                self.mistake("detectLocalMode", format!("{other:?} is not one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix"));
                DetectLocal::NodeCidr
            }
        }
    }

    fn required(&mut self, path: &str, text: &str, example: &str) {
        if text.is_empty() {
            self.mistake(
                path,
                format!("is needed by this detectLocalMode; set it, for example {example}"),
            );
        }
    }

    /// The name of an interface ends up in rules: at most 15 bytes, no blank and no `/` (Linux `dev_valid_name`), and no `+`,
    /// which iptables takes for "and whatever follows".
    fn interface(&mut self, path: &'static str) -> String {
        let name = self.text(path);
        let plain = |c: char| c.is_ascii_graphic() && !"/:+\"\\*".contains(c);
        if name.len() > 15 || !name.chars().all(plain) {
            self.mistake(path, format!("{name:?} is not the name of an interface (or the beginning of one): at most 15 letters and digits"));
        }
        name
    }

    fn cluster_cidrs(&mut self) -> Vec<IpNetwork> {
        let text = self.text("clusterCIDR");
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match network(part) {
                Some(range) => ranges.push(range),
                None => self.mistake(
                    "clusterCIDR",
                    format!("{part:?} is no range such as 10.244.0.0/16 or fd00:10:244::/48"),
                ),
            }
        }
        let of_v4 = ranges.iter().filter(|range| range.is_ipv4()).count();
        if of_v4 > 1 || ranges.len() - of_v4 > 1 {
            self.mistake("clusterCIDR", format!("{text:?} has more than one range of a family; write one, or one of IPv4 and one of IPv6"));
        }
        ranges
    }

    fn node_ports(&mut self, mode: Mode) -> NodePortSelection {
        const PATH: &str = "nodePortAddresses";
        let mut selection = NodePortSelection::default();
        let listed = self.get(PATH);
        let listed: Vec<_> =
            listed.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for item in &listed {
            match (*item, network(item)) {
                ("all", _) => selection.all = true,
                ("primary", _) => selection.primary = true,
                ("localhost", _) => selection.ranges.extend(["127.0.0.0/8", "::1/128"].into_iter().filter_map(network)),
                (_, Some(range)) => selection.ranges.push(range),
                (_, None) => self.mistake(PATH, format!("{item:?} is neither a range such as 10.0.0.0/8 nor one of primary, localhost, all")),
            }
        }
        if listed.is_empty() {
            // as in kube-proxy: its nftables mode is the more careful one
            selection.all = mode == Mode::Iptables;
            selection.primary = mode == Mode::Nftables;
        }
        selection
    }

    fn conntrack(&self) -> ConntrackConfig {
        ConntrackConfig {
            max_per_core: self.whole("conntrack.maxPerCore"),
            min: self.whole("conntrack.min"),
            tcp_established_timeout: self.duration("conntrack.tcpEstablishedTimeout"),
            tcp_close_wait_timeout: self.duration("conntrack.tcpCloseWaitTimeout"),
            tcp_be_liberal: self.flag("conntrack.tcpBeLiberal"),
            udp_timeout: self.duration("conntrack.udpTimeout"),
            udp_stream_timeout: self.duration("conntrack.udpStreamTimeout"),
        }
    }

    fn log(&mut self) -> LogSettings {
        let format = self.text("logging.format");
        if !matches!(format.as_str(), "text" | "json" | "") {
            self.mistake("logging.format", format!("{format:?} is not text or json"));
        }
        LogSettings { verbosity: self.whole("logging.verbosity"), json: format == "json" }
    }

    fn warnings(&self, config: &ProxyConfig) -> Vec<String> {
        let mut warnings = Vec::new();
        for field in FIELDS {
            let Use::Warned(why) = field.usage else { continue };
            let Some(given) = self.given.get(field.path) else { continue };
            if matters(&given.value) {
                warnings.push(format!("{}: has no effect: {why}", given.place));
            }
        }
        let loopback = config.node_ports.ranges.iter().any(|range| range.ip().is_loopback());
        if config.mode == Mode::Nftables && loopback {
            warnings.push("nodePortAddresses: node ports do not answer at loopback addresses in mode nftables; use mode iptables if you need them".into());
        }
        warnings
    }

    /// What holds, as the file would have it. The URL of `--master` has no place in it.
    fn document(&self, config: &ProxyConfig) -> Value {
        let mut document = Map::new();
        document.insert("apiVersion".into(), json!(API_VERSION));
        document.insert("kind".into(), json!(KIND));
        for field in FIELDS {
            put(&mut document, field.path, self.get(field.path));
        }
        let written =
            |address: Option<SocketAddr>| json!(address.map(|a| a.to_string()).unwrap_or_default());
        put(&mut document, "healthzBindAddress", written(config.healthz));
        put(&mut document, "metricsBindAddress", written(config.metrics));
        put(&mut document, "hostnameOverride", json!(config.node_name));
        put(&mut document, "mode", json!(config.mode.name()));
        Value::Object(document)
    }
}

/// Whether a value asks for something: a feature that is switched off asks for nothing.
fn matters(value: &Value) -> bool {
    match value {
        Value::Bool(on) => *on,
        Value::Object(gates) => gates.values().any(|on| *on == true),
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn put(document: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            document.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = document.entry(section).or_insert_with(|| json!({}));
            if let Value::Object(section) = section {
                put(section, rest, value);
            }
        }
    }
}

/// A range without its host's bits. A prefix must be written: an address alone is a typing mistake more often than not.
fn network(text: &str) -> Option<IpNetwork> {
    let range: IpNetwork = text.contains('/').then(|| text.parse().ok())??;
    IpNetwork::new(range.network(), range.prefix()).ok()
}

fn unspecified(is_v6: bool) -> IpAddr {
    if is_v6 {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    }
}

fn localhost(is_v6: bool) -> IpAddr {
    if is_v6 { std::net::Ipv6Addr::LOCALHOST.into() } else { std::net::Ipv4Addr::LOCALHOST.into() }
}
