//! Whether rules see packets that go from one port of a bridge to another: the answer of an endpoint that is on the client's own bridge
//! must come back through them, or the client would get it from an address that it never spoke to.

use netns_tools::Link;
use netns_tools::iptables::Family;

use super::Kernel;

/// What is wrong with the bridges, in words. Where there is none, nothing is.
pub(super) fn problems(families: &[Family], links: &[Link], kernel: &dyn Kernel) -> Vec<String> {
    let bridges: Vec<_> =
        links.iter().filter(|link| link.kind.as_deref() == Some("bridge")).collect();
    let Some(bridge) = bridges.first() else { return Vec::new() };
    families.iter().filter_map(|family| problem(*family, &bridge.name, kernel)).collect()
}

fn problem(family: Family, bridge: &str, kernel: &dyn Kernel) -> Option<String> {
    let key = match family {
        Family::V4 => "net/bridge/bridge-nf-call-iptables",
        Family::V6 => "net/bridge/bridge-nf-call-ip6tables",
    };
    let sysctl = key.replace('/', ".");
    let (is, remedy) = match kernel.read(key) {
        Ok(value) if value.trim() == "1" => return None,
        Ok(value) => (format!("is {}", value.trim()), format!("`sysctl -w {sysctl}=1`")),
        Err(error) if error.is_not_found() => {
            ("is missing".into(), format!("`modprobe br_netfilter`, then `sysctl -w {sysctl}=1`"))
        }
        Err(error) => {
            (format!("cannot be read ({error})"), format!("see that it is 1: `sysctl {sysctl}`"))
        }
    };
    Some(format!(
        "{sysctl} {is}: a pod reaches no service whose endpoint is at the same bridge (there is {bridge}); {remedy}"
    ))
}

#[cfg(test)]
mod tests {
    use netns_tools::sysctl::SysctlError;
    use netns_tools::testing::TestNetns;

    use super::*;

    struct Fake(Option<&'static str>);

    impl Kernel for Fake {
        fn read(&self, key: &str) -> Result<String, SysctlError> {
            self.0.map(str::to_owned).ok_or_else(|| SysctlError::NotFound { key: key.into() })
        }

        fn write(&mut self, key: &str, _: &str) -> Result<(), SysctlError> {
            panic!("{key} is only looked at")
        }
    }

    #[test]
    fn only_a_host_with_a_bridge_is_warned() {
        let ns = TestNetns::new("bridge");
        let links = || ns.netlink().links().unwrap();
        let both = [Family::V4, Family::V6];
        assert_eq!(problems(&both, &links(), &Fake(None)), [""; 0]);
        ns.cmd(&["ip", "link", "add", "cni0", "type", "bridge"]);
        assert_eq!(problems(&both, &links(), &Fake(Some("1\n"))), [""; 0]);
        let want = [
            "net.bridge.bridge-nf-call-iptables is 0: a pod reaches no service whose endpoint is at the same bridge (there is cni0); \
             `sysctl -w net.bridge.bridge-nf-call-iptables=1`",
            "net.bridge.bridge-nf-call-ip6tables is 0: a pod reaches no service whose endpoint is at the same bridge (there is cni0); \
             `sysctl -w net.bridge.bridge-nf-call-ip6tables=1`",
        ];
        assert_eq!(problems(&both, &links(), &Fake(Some("0"))), want);
        let want = "net.bridge.bridge-nf-call-iptables is missing: a pod reaches no service whose endpoint is at the same bridge \
                    (there is cni0); `modprobe br_netfilter`, then `sysctl -w net.bridge.bridge-nf-call-iptables=1`";
        assert_eq!(problems(&[Family::V4], &links(), &Fake(None)), [want]);
    }
}
