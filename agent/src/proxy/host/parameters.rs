//! Kernel parameters that services need: which, how much, and why. What kube-proxy sets, set as kube-proxy sets it
//! (`cmd/kube-proxy/app/conntrack.go`, 1.36), but that a table of connections that somebody made larger stays so.

use std::time::Duration;

use netns_tools::iptables::Family;
use netns_tools::sysctl::SysctlError;

use super::Kernel;

/// The configuration's `conntrack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackConfig {
    /// `maxPerCore`: tracked connections per processor; 0: the limit stays what it is, whatever `min` says.
    pub max_per_core: u32,
    /// `min`: at least so many.
    pub min: u32,
    /// `tcpEstablishedTimeout`; zero: as it is. So with the others.
    pub tcp_established_timeout: Duration,
    /// `tcpCloseWaitTimeout`
    pub tcp_close_wait_timeout: Duration,
    /// `tcpBeLiberal`
    pub tcp_be_liberal: bool,
    /// `udpTimeout`
    pub udp_timeout: Duration,
    /// `udpStreamTimeout`
    pub udp_stream_timeout: Duration,
}

/// kube-proxy's defaults.
impl Default for ConntrackConfig {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established_timeout: Duration::from_hours(24),
            tcp_close_wait_timeout: Duration::from_hours(1),
            tcp_be_liberal: false,
            udp_timeout: Duration::ZERO,
            udp_stream_timeout: Duration::ZERO,
        }
    }
}

impl ConntrackConfig {
    /// How many connections are to be tracked at most; `None`: as many as now.
    pub fn max(&self, processors: u32) -> Option<u32> {
        let wanted = self.max_per_core.saturating_mul(processors);
        (self.max_per_core > 0).then_some(wanted.max(self.min))
    }
}

/// What the parameters depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Families that are served.
    pub families: Vec<Family>,
    /// Whether node ports answer at 127.0.0.1: iptables mode only, and only where `nodePortAddresses` hold an address of it.
    pub localhost_node_ports: bool,
    /// Whether packets that stay on a bridge are shown to rules by our doing. A node that is the agent's own needs it; kube-proxy only
    /// looks, as a host may have bridges that are no pods'.
    pub sets_bridges: bool,
    /// The configuration's `conntrack`.
    pub conntrack: ConntrackConfig,
}

/// When a parameter is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Exactly,
    AtLeast,
    /// It should have the value, and is the operator's to set.
    Looked,
}

/// A parameter as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    key: &'static str,
    value: u32,
    need: Need,
    /// What does not work without it.
    without: &'static str,
}

const fn exactly(key: &'static str, value: u32, without: &'static str) -> Parameter {
    Parameter { key, value, need: Need::Exactly, without }
}

const fn at_least(key: &'static str, value: u32, without: &'static str) -> Parameter {
    Parameter { key, value, need: Need::AtLeast, without }
}

const NOT_FORWARDED: &str = "packets to endpoints in pods and on other machines are not forwarded";
const LONG: &str = "idle connections are forgotten earlier, or kept longer, than configured";
const FULL: &str = "new connections are dropped when the table of tracked connections is full (`nf_conntrack: table full` in the kernel's log)";
const SLOW: &str = "tracked connections are found slowly";

/// All that should be set, in order.
pub(super) fn plan(config: &HostConfig, processors: u32) -> Vec<Parameter> {
    let mut all = forwarding(&config.families);
    if config.localhost_node_ports && config.families.contains(&Family::V4) {
        let without =
            "node ports do not answer at 127.0.0.1; or set iptables.localhostNodePorts to false";
        all.push(exactly("net/ipv4/conf/all/route_localnet", 1, without));
    }
    all.extend(conntrack(&config.conntrack, processors));
    all
}

/// IPv6 forwarding is only looked at: a host that learns its default route from router advertisements ignores them once it forwards.
fn forwarding(families: &[Family]) -> Vec<Parameter> {
    let parameter = |family: &Family| match family {
        Family::V4 => exactly("net/ipv4/ip_forward", 1, NOT_FORWARDED),
        Family::V6 => {
            let key = "net/ipv6/conf/all/forwarding";
            Parameter { key, value: 1, need: Need::Looked, without: NOT_FORWARDED }
        }
    };
    families.iter().map(parameter).collect()
}

fn conntrack(config: &ConntrackConfig, processors: u32) -> Vec<Parameter> {
    let mut all = Vec::new();
    if let Some(max) = config.max(processors) {
        all.push(at_least("net/netfilter/nf_conntrack_max", max, FULL));
        // four connections to a bucket, as kube-proxy has it
        all.push(at_least("net/netfilter/nf_conntrack_buckets", max / 4, SLOW));
    }
    let times = [
        ("net/netfilter/nf_conntrack_tcp_timeout_established", config.tcp_established_timeout),
        ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", config.tcp_close_wait_timeout),
        ("net/netfilter/nf_conntrack_udp_timeout", config.udp_timeout),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", config.udp_stream_timeout),
    ];
    for (key, time) in times.into_iter().filter(|(_, time)| !time.is_zero()) {
        all.push(exactly(key, time.as_secs().try_into().unwrap_or(u32::MAX), LONG));
    }
    if config.tcp_be_liberal {
        let without = "packets that conntrack finds out of window are not accepted";
        all.push(exactly("net/netfilter/nf_conntrack_tcp_be_liberal", 1, without));
    }
    all
}

impl Parameter {
    /// Sets it, unless it is as it should be. What goes wrong is said in words, with the remedy.
    pub(super) fn apply(&self, kernel: &mut dyn Kernel) -> Result<(), String> {
        let found = kernel.read(self.key).map_err(|error| self.problem(None, &error))?;
        let number = found.trim().parse::<u64>().ok();
        let wanted = u64::from(self.value);
        let good = number.is_some_and(|number| match self.need {
            Need::Exactly | Need::Looked => number == wanted,
            Need::AtLeast => number >= wanted,
        });
        if good {
            return Ok(());
        }
        if self.need == Need::Looked {
            return Err(self.advice(&found));
        }
        let written = kernel.write(self.key, &self.value.to_string());
        written.map_err(|error| self.problem(Some(&found), &error))
    }

    fn advice(&self, found: &str) -> String {
        let Self { key, value, without, .. } = self;
        let key = key.replace('/', ".");
        format!(
            "{key} is {found}: {without}; `sysctl -w {key}={value}`, and where the default route comes from router advertisements \
             accept_ra=2 for that interface before"
        )
    }

    fn problem(&self, found: Option<&str>, error: &SysctlError) -> String {
        let Self { key, value, without, .. } = self;
        let reason = netns_tools::cause::one_line(error);
        let is = found.map(|found| format!(" (it is {found})")).unwrap_or_default();
        let remedy = match error {
            SysctlError::NotFound { .. } if key.starts_with("net/netfilter/") => {
                "load the module: `modprobe nf_conntrack`".to_owned()
            }
            SysctlError::NotFound { .. } => "the kernel was built or started without it".to_owned(),
            _ => format!(
                "set it on the host: `sysctl -w {}={value}`. It cannot be set from here: a container may have /proc/sys read-only, and \
                 some parameters belong to the host's network namespace",
                key.replace('/', ".")
            ),
        };
        format!("{reason}{is}: {without}; {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;

    /// Parameters in memory; what is listed as fixed cannot be written.
    struct Fake {
        values: BTreeMap<String, String>,
        fixed: Vec<&'static str>,
        written: Vec<String>,
    }

    impl Kernel for Fake {
        fn read(&self, key: &str) -> Result<String, SysctlError> {
            let value = self.values.get(key).cloned();
            value.ok_or_else(|| SysctlError::NotFound { key: key.into() })
        }

        fn write(&mut self, key: &str, value: &str) -> Result<(), SysctlError> {
            if self.fixed.contains(&key) {
                let source = io::Error::from(io::ErrorKind::PermissionDenied);
                return Err(SysctlError::Write { key: key.into(), value: value.into(), source });
            }
            self.written.push(format!("{key}={value}"));
            self.values.insert(key.into(), value.into());
            Ok(())
        }
    }

    fn fake(values: &[(&str, &str)]) -> Fake {
        let values = values.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Fake { values, fixed: Vec::new(), written: Vec::new() }
    }

    fn config() -> HostConfig {
        HostConfig {
            families: vec![Family::V4, Family::V6],
            localhost_node_ports: true,
            sets_bridges: false,
            conntrack: ConntrackConfig::default(),
        }
    }

    fn keys(config: &HostConfig) -> Vec<String> {
        let told = |parameter: Parameter| {
            let name = parameter.key.rsplit('/').next().unwrap_or_default();
            let sign = match parameter.need {
                Need::Exactly => "=",
                Need::AtLeast => ">=",
                Need::Looked => "?",
            };
            format!("{name}{sign}{}", parameter.value)
        };
        plan(config, 8).into_iter().map(told).collect()
    }

    #[test]
    fn defaults_are_kube_proxys() {
        let want = [
            "ip_forward=1",
            "forwarding?1",
            "route_localnet=1",
            "nf_conntrack_max>=262144",
            "nf_conntrack_buckets>=65536",
            "nf_conntrack_tcp_timeout_established=86400",
            "nf_conntrack_tcp_timeout_close_wait=3600",
        ];
        assert_eq!(keys(&config()), want);
    }

    #[test]
    fn everything_that_can_be_set() {
        let seconds = Duration::from_secs;
        let conntrack = ConntrackConfig {
            max_per_core: 10,
            min: 1000,
            tcp_established_timeout: Duration::ZERO,
            tcp_close_wait_timeout: Duration::ZERO,
            tcp_be_liberal: true,
            udp_timeout: seconds(30),
            udp_stream_timeout: seconds(120),
        };
        let only_v6 = HostConfig { families: vec![Family::V6], conntrack, ..config() };
        let want = [
            "forwarding?1",
            "nf_conntrack_max>=1000",
            "nf_conntrack_buckets>=250",
            "nf_conntrack_udp_timeout=30",
            "nf_conntrack_udp_timeout_stream=120",
            "nf_conntrack_tcp_be_liberal=1",
        ];
        assert_eq!(keys(&only_v6), want);
    }

    #[test]
    fn how_many_connections() {
        let max = |max_per_core, min, processors| {
            ConntrackConfig { max_per_core, min, ..ConntrackConfig::default() }.max(processors)
        };
        assert_eq!(max(0, 131_072, 64), None);
        assert_eq!(max(32_768, 131_072, 2), Some(131_072));
        assert_eq!(max(32_768, 131_072, 8), Some(262_144));
        assert_eq!(max(32_768, 0, 2), Some(65_536));
        assert_eq!(max(u32::MAX, 0, 2), Some(u32::MAX));
    }

    #[test]
    fn a_table_that_is_larger_stays_and_a_time_that_is_longer_does_not() {
        let (max, time) = (
            "net/netfilter/nf_conntrack_max",
            "net/netfilter/nf_conntrack_tcp_timeout_established",
        );
        let mut kernel = fake(&[(max, "500000"), (time, "432000")]);
        at_least(max, 131_072, "").apply(&mut kernel).unwrap();
        exactly(time, 86400, "").apply(&mut kernel).unwrap();
        assert_eq!(kernel.written, [format!("{time}=86400")]);
        exactly(time, 86400, "").apply(&mut kernel).unwrap();
        at_least(max, 600_000, "").apply(&mut kernel).unwrap();
        assert_eq!(kernel.written, [format!("{time}=86400"), format!("{max}=600000")]);
    }

    #[test]
    fn forwarding_of_ipv6_is_the_operators() {
        let mut kernel = fake(&[("net/ipv6/conf/all/forwarding", "0")]);
        let parameter = &forwarding(&[Family::V6])[0];
        let want = "net.ipv6.conf.all.forwarding is 0: packets to endpoints in pods and on other machines are not forwarded; `sysctl -w \
                    net.ipv6.conf.all.forwarding=1`, and where the default route comes from router advertisements accept_ra=2 for that \
                    interface before";
        assert_eq!(parameter.apply(&mut kernel), Err(want.to_owned()));
        assert!(kernel.written.is_empty());
        let mut kernel = fake(&[("net/ipv6/conf/all/forwarding", "1")]);
        assert_eq!(parameter.apply(&mut kernel), Ok(()));
    }

    #[test]
    fn what_cannot_be_set_is_told_with_its_remedy() {
        let max = "net/netfilter/nf_conntrack_max";
        let mut kernel = fake(&[(max, "65536")]);
        kernel.fixed = vec![max];
        let problem = at_least(max, 131_072, "connections are dropped").apply(&mut kernel);
        let want = "cannot set kernel parameter net/netfilter/nf_conntrack_max to `131072`: permission denied (it is 65536): \
                    connections are dropped; set it on the host: `sysctl -w net.netfilter.nf_conntrack_max=131072`. It cannot be set \
                    from here: a container may have /proc/sys read-only, and some parameters belong to the host's network namespace";
        assert_eq!(problem, Err(want.to_owned()));
        let missing = at_least("net/netfilter/nf_conntrack_buckets", 1, "x").apply(&mut kernel);
        let told = missing.unwrap_err();
        assert!(told.ends_with("x; load the module: `modprobe nf_conntrack`"), "{told}");
    }
}
