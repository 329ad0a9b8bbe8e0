//! Checksums inside of a tunnel that a device gets wrong.
//!
//! The router passes tunnelled packets on as a program sees them: inside of the tunnel, a checksum that was left to the device is then never
//! filled in, as by a device that knows only of the outer one. Everything else it forwards as routers do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netns_tools::PacketSocket;
use netns_tools::testing::TestNetns;

use super::super::*;
use super::world::{Underlay, World};

/// Ends the router's program, also if a test panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `body` while the router breaks checksums.
fn breaking(world: &World, body: impl FnOnce()) {
    world.nft(
        "table ip broken { chain pass { type filter hook forward priority 0; udp dport 8472 drop; }; }",
    );
    let open = |name| {
        let index = world.router.link(name).index;
        PacketSocket::open_in(world.router.ns(), index, 8472).unwrap()
    };
    let sides = [(open("r1"), &world.nodes[0]), (open("r2"), &world.nodes[1])];
    let macs = sides.each_ref().map(|(_, node)| node.link("eth0").mac.unwrap());
    let (sides, is_over) = (sides.map(|(socket, _)| socket), AtomicBool::new(false));
    thread::scope(|scope| {
        let (sides, is_over) = (&sides, &is_over);
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                for (from, to) in [(0, 1), (1, 0)] {
                    while let Some(mut datagram) = sides[from].receive().unwrap() {
                        // the outer one, after an IP header of 20 bytes: none is needed (RFC 768)
                        datagram.payload[26..28].fill(0);
                        // what is too large for the wire is lost
                        let _ = sides[to].send(macs[to], &datagram.payload);
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let _end = End(is_over);
        body();
    });
}

/// Does a command as the agent's worker does.
fn obey(node: &TestNetns, probing: &mut super::world::Probing) -> Command {
    let Switch { command, done } = probing.next_switch();
    let device = node.link(&command.device).index;
    node.netlink().set_tx_checksum_offload(device, command.on).unwrap();
    done.send(Ok(())).unwrap();
    command
}

#[test]
fn a_device_that_breaks_checksums_is_found_and_relieved_of_them() {
    let world = World::new(Underlay::V4, "set");
    breaking(&world, || {
        world.probing(world.input(), |probing| {
            probing.until_outcome(&World::key(), Outcome::Nothing(Cause::Checksum));
            assert_eq!(world.stream(false, 10_000), 0, "TCP works with broken checksums");
            let command = obey(&world.nodes[0], probing);
            assert!(!command.on && command.reason.contains("do not arrive at 1 nodes"));
            let told = probing.until_device(|text| text.starts_with("off: "));
            assert!(told.ends_with("probes arrive now"), "{told}");
            let known =
                probing.until(&World::key(), |known| known.outcome == Some(Outcome::Arrives));
            assert_eq!(known.to_string(), "packets of 1450 bytes arrive");
        });
        // answers arrive whatever the other node's device does, so each finds its own fault
        assert_eq!(world.stream(false, 10_000), 0);
        world.probing_from(2, world.input_of(2), |probing| {
            assert!(!obey(&world.nodes[1], probing).on);
            probing.until_device(|text| text.starts_with("off: "));
        });
        assert_eq!(world.stream(false, 10_000), 10_000);
    });
}

#[test]
fn a_device_that_is_off_is_left_so_where_that_helps_and_put_on_where_not() {
    let world = World::new(Underlay::V4, "set");
    let device = world.nodes[0].link("heddle.1").index;
    world.nodes[0].netlink().set_tx_checksum_offload(device, false).unwrap();
    let input = Input { devices: [("heddle.1".into(), false)].into(), ..world.input() };
    breaking(&world, || {
        world.probing(input.clone(), |probing| {
            probing.until_device(|text| text == "off: it was off already; probes arrive now");
            assert!(probing.switches.try_recv().is_err());
        });
    });
    // now the tunnel's port is closed, and nothing of it is passed on
    world.probing(input, |probing| {
        probing.until_outcome(&World::key(), Outcome::Nothing(Cause::Tunnel));
        let command = obey(&world.nodes[0], probing);
        assert!(command.on, "{command:?}");
        probing.until_device(|text| text.starts_with("on: no probe arrives"));
    });
}

#[test]
fn a_closed_port_and_a_node_that_is_down_are_not_the_checksums_fault() {
    let world = World::new(Underlay::V4, "set");
    world.nft(
        "table ip closed { chain pass { type filter hook forward priority 0; udp dport 8472 drop; }; }",
    );
    world.probing(world.input(), |probing| {
        probing.until_outcome(&World::key(), Outcome::Nothing(Cause::Tunnel));
        world.nft("add rule ip closed pass drop");
        probing.hurry.blocking_send(Vec::new()).unwrap();
        probing.until_outcome(&World::key(), Outcome::Nothing(Cause::Silent));
        world.nft("delete table ip closed");
        probing.hurry.blocking_send(Vec::new()).unwrap();
        probing.until_outcome(&World::key(), Outcome::Arrives);
        assert!(probing.switches.try_recv().is_err());
        assert_eq!(probing.until_device(|_| true), "on");
    });
}

#[test]
fn configured_off_or_on_without_any_probe() {
    let world = World::new(Underlay::V4, "set");
    let input = Input { setting: Setting::Off, targets: [].into(), ..world.input() };
    world.probing(input, |probing| {
        assert!(!obey(&world.nodes[0], probing).on);
        probing.until_device(|text| text == "off: overlay.checksum_offload = \"off\"");
        probing.input.send_modify(|input| {
            *input = Arc::new(Input { setting: Setting::On, ..Input::clone(input) });
        });
        assert!(obey(&world.nodes[0], probing).on);
        probing.until_device(|text| text == "on");
    });
}
