use netns_tools::testing::TestNetns;

use super::*;

/// What becoming a port does to an interface is that the kernel sets it down and up: this can be done without a VRF.
#[test]
fn what_going_down_takes_is_restored_in_another_table() {
    let ns = TestNetns::new("vrf");
    ns.cmd(&["sh", "-c", "ip link add eth0 type veth peer name far && ip link set far up && ip link set eth0 up
        ip addr add 10.0.0.2/24 brd + dev eth0 && ip -6 addr add fd00::2/64 dev eth0 nodad
        echo 0 > /proc/sys/net/ipv6/conf/eth0/keep_addr_on_down
        ip route add 10.1.0.1/32 dev eth0 && ip route add default via 10.1.0.1 dev eth0 metric 5
        ip route add 10.7.0.0/16 via 10.0.0.9 mtu 1300 && ip -6 route add default via fd00::1 dev eth0"]);
    let index = ns.link("eth0").index;
    let mut inside = ns.netlink();
    let before = look(&mut inside, index).unwrap();
    ns.cmd(&["sh", "-c", "ip link set eth0 down && ip link set eth0 up"]);
    assert!(!ns.cmd(&["ip", "addr"]).contains("fd00::2"), "the kernel takes it");
    restore(&mut inside, index, &before, 77).unwrap();

    assert!(ns.cmd(&["ip", "addr"]).contains("fd00::2/64"));
    let shown = |family: &str| -> Vec<String> {
        let text = ns.cmd(&["ip", family, "route", "show", "table", "77"]);
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let wanted = [
        "default via 10.1.0.1 dev eth0 metric 5",
        "10.1.0.1 dev eth0 scope link",
        "10.7.0.0/16 via 10.0.0.9 dev eth0 mtu 1300",
    ];
    assert_eq!(shown("-4"), wanted);
    assert_eq!(shown("-6").len(), 1);
    assert!(shown("-6")[0].starts_with("default via fd00::1 dev eth0"));
    // Once more changes nothing.
    restore(&mut inside, index, &before, 77).unwrap();
    assert_eq!((shown("-4").len(), shown("-6").len()), (3, 1));
}
