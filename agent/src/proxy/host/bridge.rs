//! Whether rules see packets that go from one port of a bridge to another: the answer of an endpoint that is on the client's own bridge
//! must come back through them, or the client would get it from an address that it never spoke to.

use netns_tools::Link;
use netns_tools::iptables::Family;

use super::{HostConfig, Kernel, ThisNamespace};

/// Shows bridged packets to rules where that is ours to do, and says what is wrong with the bridges, in words. Where there is no bridge
/// nothing is wrong, but it is set all the same: the first pod brings one.
pub(super) fn look(config: &HostConfig, links: &[Link], kernel: &mut dyn Kernel) -> Vec<String> {
    let bridge = links.iter().find(|link| link.kind.as_deref() == Some("bridge"));
    let mut problems = Vec::new();
    for family in &config.families {
        let wrong = ensure(*family, config.sets_bridges, kernel).err();
        problems.extend(wrong.zip(bridge).map(|(wrong, bridge)| wrong.told(&bridge.name)));
    }
    problems
}

/// Shows the packets that stay on a bridge of pods to the rules of a family; answers what is wrong if it cannot be done, in words.
pub fn show_bridged(family: Family, bridge: &str) -> Option<String> {
    ensure(family, true, &mut ThisNamespace).err().map(|wrong| wrong.told(bridge))
}

/// What is not as it should be, and what to do.
struct Wrong {
    sysctl: String,
    is: String,
    remedy: String,
}

impl Wrong {
    fn told(&self, bridge: &str) -> String {
        let Self { sysctl, is, remedy } = self;
        format!(
            "{sysctl} {is}: a pod reaches no service whose endpoint is at the same bridge (there is {bridge}); {remedy}"
        )
    }
}

fn ensure(family: Family, set: bool, kernel: &mut dyn Kernel) -> Result<(), Wrong> {
    let key = match family {
        Family::V4 => "net/bridge/bridge-nf-call-iptables",
        Family::V6 => "net/bridge/bridge-nf-call-ip6tables",
    };
    let sysctl = key.replace('/', ".");
    let by_hand = format!("`sysctl -w {sysctl}=1`");
    let (is, remedy) = match kernel.read(key) {
        Ok(value) if value.trim() == "1" => return Ok(()),
        Ok(value) => match set.then(|| kernel.write(key, "1")) {
            Some(Ok(())) => {
                tracing::info!(
                    sysctl,
                    was = value.trim(),
                    "bridged packets are shown to rules now"
                );
                return Ok(());
            }
            Some(Err(error)) => {
                let reason = netns_tools::cause::one_line(&error);
                (format!("is {} and stays so ({reason})", value.trim()), by_hand)
            }
            None => (format!("is {}", value.trim()), by_hand),
        },
        Err(error) if error.is_not_found() => {
            ("is missing".into(), format!("`modprobe br_netfilter`, then {by_hand}"))
        }
        Err(error) => {
            (format!("cannot be read ({error})"), format!("see that it is 1: `sysctl {sysctl}`"))
        }
    };
    Err(Wrong { sysctl, is, remedy })
}

#[cfg(test)]
mod tests {
    use std::io;

    use netns_tools::sysctl::SysctlError;
    use netns_tools::testing::TestNetns;

    use super::*;
    use crate::proxy::host::{ConntrackConfig, prepare};

    /// One value for both families; whether it may be written, and what was.
    struct Fake {
        value: Option<&'static str>,
        fixed: bool,
        written: Vec<String>,
    }

    fn fake(value: Option<&'static str>) -> Fake {
        Fake { value, fixed: false, written: Vec::new() }
    }

    impl Kernel for Fake {
        fn read(&self, key: &str) -> Result<String, SysctlError> {
            self.value.map(str::to_owned).ok_or_else(|| SysctlError::NotFound { key: key.into() })
        }

        fn write(&mut self, key: &str, value: &str) -> Result<(), SysctlError> {
            if self.fixed {
                let source = io::Error::from(io::ErrorKind::PermissionDenied);
                return Err(SysctlError::Write { key: key.into(), value: value.into(), source });
            }
            self.written.push(format!("{key}={value}"));
            Ok(())
        }
    }

    fn config(sets_bridges: bool) -> HostConfig {
        HostConfig {
            families: vec![Family::V4, Family::V6],
            localhost_node_ports: false,
            sets_bridges,
            conntrack: ConntrackConfig { max_per_core: 0, ..ConntrackConfig::default() },
        }
    }

    #[test]
    fn only_a_host_with_a_bridge_is_warned() {
        let ns = TestNetns::new("bridge");
        let links = || ns.netlink().links().unwrap();
        let looked = |value| {
            let mut kernel = fake(value);
            let problems = look(&config(false), &links(), &mut kernel);
            assert!(kernel.written.is_empty(), "it is only looked at");
            problems
        };
        assert_eq!(looked(None), [""; 0]);
        ns.cmd(&["ip", "link", "add", "cni0", "type", "bridge"]);
        assert_eq!(looked(Some("1\n")), [""; 0]);
        let want = [
            "net.bridge.bridge-nf-call-iptables is 0: a pod reaches no service whose endpoint is at the same bridge (there is cni0); \
             `sysctl -w net.bridge.bridge-nf-call-iptables=1`",
            "net.bridge.bridge-nf-call-ip6tables is 0: a pod reaches no service whose endpoint is at the same bridge (there is cni0); \
             `sysctl -w net.bridge.bridge-nf-call-ip6tables=1`",
        ];
        assert_eq!(looked(Some("0")), want);
        let want = "net.bridge.bridge-nf-call-iptables is missing: a pod reaches no service whose endpoint is at the same bridge \
                    (there is cni0); `modprobe br_netfilter`, then `sysctl -w net.bridge.bridge-nf-call-iptables=1`";
        assert_eq!(looked(None)[0], want);
    }

    #[test]
    fn what_cannot_be_set_is_told_with_its_reason() {
        let ns = TestNetns::new("bridge");
        ns.cmd(&["ip", "link", "add", "cni0", "type", "bridge"]);
        let links = ns.netlink().links().unwrap();
        let mut kernel = Fake { fixed: true, ..fake(Some("0")) };
        let problems = look(&config(true), &links, &mut kernel);
        assert_eq!(problems.len(), 2);
        let want = "net.bridge.bridge-nf-call-iptables is 0 and stays so (cannot set kernel parameter net/bridge/bridge-nf-call-iptables to \
                    `1`: permission denied): a pod reaches";
        assert!(problems[0].starts_with(want), "{problems:?}");
        // without the module there is nothing to set
        let mut kernel = fake(None);
        let problems = look(&config(true), &links, &mut kernel);
        assert!(
            problems[0].ends_with("`sysctl -w net.bridge.bridge-nf-call-iptables=1`")
                && kernel.written.is_empty()
        );
    }

    /// It is a parameter of the namespace (Linux 5.3), so the machine's own bridges are as they were.
    #[test]
    fn an_agents_own_node_is_set_and_nothing_else() {
        const KEYS: [&str; 2] =
            ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];
        let read = || KEYS.map(|key| netns_tools::sysctl::read(key).unwrap());
        let outside = read();
        let ns = TestNetns::new("bridge");
        // an address of IPv6, or nothing is done for it
        ns.configure("lo", &["fd00::1/64"]);
        ns.cmd(&["ip", "link", "add", "cni0", "type", "bridge"]);
        ns.run(|| {
            for key in KEYS {
                netns_tools::sysctl::write(key, "0").unwrap();
            }
        });
        let told = |sets| ns.run(|| prepare(&config(sets))).problems.join("\n");
        let told_by_proxy = told(false);
        assert!(told_by_proxy.contains("bridge-nf-call-iptables is 0"), "{told_by_proxy}");
        assert_eq!(ns.run(read), ["0", "0"]);
        let told_by_agent = told(true);
        assert!(!told_by_agent.contains("bridge-nf-call"), "{told_by_agent}");
        assert_eq!(ns.run(read), ["1", "1"]);
        assert_eq!(read(), outside);
    }
}
