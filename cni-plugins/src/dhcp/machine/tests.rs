use Kind::{Ack, Nak, Offer};

use super::*;
use crate::dhcp::lease::Times;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const START: Time = 1_000_000;
/// Transaction ids are the upper half of random numbers.
const XID: u32 = 7;

fn params() -> Params {
    Params {
        chaddr: MAC,
        provide: Options::from([(code::CLIENT_ID, b"\0c1/net/eth0".to_vec())]),
        request: vec![1, 3],
        broadcast: true,
        timing: Timing { timeout: 10_000, resend_max: 62_000, resend_timeout: 208_000 },
    }
}

fn at(now: Time) -> Moment {
    Moment { now: START + now, random: u64::from(XID) << 32 }
}

fn answer(kind: Kind, address: Ipv4Addr, seconds: u32) -> Message {
    Message {
        reply: true,
        xid: XID,
        secs: 0,
        broadcast: false,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: address,
        chaddr: MAC,
        options: Options::from([
            (code::MESSAGE_TYPE, vec![kind.number()]),
            (code::SERVER, SERVER.octets().to_vec()),
            (code::SUBNET_MASK, vec![255, 255, 255, 0]),
            (code::LEASE_TIME, seconds.to_be_bytes().to_vec()),
        ]),
    }
}

fn lease() -> Lease {
    Lease::granted(&answer(Kind::Ack, ADDRESS, 80), SERVER_MAC, START, None)
}

fn happen(state: State, event: Event, now: Time) -> Step {
    step(state, event, &params(), at(now))
}

fn hear(state: State, message: Message, now: Time) -> Step {
    happen(state, Event::Received(message, SERVER_MAC), now)
}

fn name(state: &State) -> &'static str {
    match state {
        State::Selecting(..) => "selecting",
        State::Requesting(..) => "requesting",
        State::Rebooting(..) => "rebooting",
        State::Bound(..) => "bound",
        State::Renewing(..) => "renewing",
        State::Rebinding(..) => "rebinding",
        State::Ended => "ended",
    }
}

/// `TYPE [50=…] [54=…] [ciaddr=…] to WHOM`.
fn line(action: &Action) -> String {
    let (message, to) = match action {
        Action::Send(message, to) => (message, to),
        Action::Hold(lease) => return format!("hold {}", lease.address),
        other => return format!("{other:?}"),
    };
    let mut text = format!("{:?}", message.kind().unwrap()).to_uppercase();
    for option in [code::REQUESTED_ADDRESS, code::SERVER] {
        if let Some(address) = message.address(option) {
            text += &format!(" {option}={address}");
        }
    }
    if !message.ciaddr.is_unspecified() {
        text += &format!(" ciaddr={}", message.ciaddr);
    }
    match to {
        To::All => text + " to all",
        To::Server(server, via) => text + &format!(" to {server} via {via}"),
    }
}

fn told(step: &Step) -> (&'static str, Vec<String>) {
    (name(&step.0), step.1.iter().map(line).collect())
}

fn selecting() -> State {
    acquire(&params(), at(0)).0
}

fn requesting() -> State {
    hear(selecting(), answer(Kind::Offer, ADDRESS, 80), 0).0
}

fn bound_state() -> State {
    hear(requesting(), answer(Kind::Ack, ADDRESS, 80), 0).0
}

fn renewing() -> State {
    happen(bound_state(), Event::Due, 40_000).0
}

fn rebinding() -> State {
    happen(renewing(), Event::Due, 70_000).0
}

fn rebooting() -> State {
    verify(lease(), &params(), at(1000)).0
}

fn regaining() -> State {
    hear(renewing(), answer(Kind::Nak, Ipv4Addr::UNSPECIFIED, 0), 41_000).0
}

const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const NOTE_AGAIN: &str = "Note(\"the lease does not hold; asking for the same address again\")";
const ASK_RENEW: &str = "REQUEST ciaddr=10.0.0.5 to 10.0.0.1 via 02:00:00:00:00:01";
const RELEASE: &str = "RELEASE 54=10.0.0.1 ciaddr=10.0.0.5 to 10.0.0.1 via 02:00:00:00:00:01";

/// A state, what happens when, and what that makes of it.
type Row = (State, Event, Time, &'static str, &'static [&'static str]);

fn received(kind: Kind, address: Ipv4Addr) -> Event {
    Event::Received(answer(kind, address, 80), SERVER_MAC)
}

fn try_all(table: Vec<Row>) {
    for (state, event, now, next, actions) in table {
        let what = format!("{} {event:?} at {now}", name(&state));
        let step = happen(state, event, now);
        assert_eq!(
            told(&step),
            (next, actions.iter().map(ToString::to_string).collect()),
            "{what}"
        );
    }
}

// Every state × every event that means something to it, in three parts.

#[test]
fn getting_a_lease() {
    try_all(vec![
        (
            selecting(),
            received(Offer, ADDRESS),
            5,
            "requesting",
            &["REQUEST 50=10.0.0.5 54=10.0.0.1 to all"],
        ),
        (selecting(), received(Offer, NONE), 5, "selecting", &[]),
        (selecting(), received(Ack, ADDRESS), 5, "selecting", &[]),
        (selecting(), received(Nak, NONE), 5, "selecting", &[]),
        (selecting(), Event::Due, 2000, "selecting", &["DISCOVER to all"]),
        (selecting(), Event::Due, 208_000, "ended", &["Fail(NoAnswer)"]),
        (selecting(), Event::Release, 5, "ended", &["Fail(Stopped)"]),
        (selecting(), Event::Vanished, 5, "ended", &["Forget"]),
        (requesting(), received(Ack, ADDRESS), 5, "bound", &["hold 10.0.0.5"]),
        (requesting(), received(Offer, OTHER), 5, "requesting", &[]),
        (
            requesting(),
            received(Nak, NONE),
            5,
            "selecting",
            &["Note(\"the server refused its own offer\")"],
        ),
        (requesting(), Event::Due, 2000, "requesting", &["REQUEST 50=10.0.0.5 54=10.0.0.1 to all"]),
        (requesting(), Event::Due, 10_000, "selecting", &["DISCOVER to all"]),
        (requesting(), Event::Due, 208_000, "ended", &["Fail(NoAnswer)"]),
        (requesting(), Event::Release, 5, "ended", &[RELEASE, "Fail(Stopped)"]),
        (requesting(), Event::Vanished, 5, "ended", &["Forget"]),
    ]);
}

#[test]
fn holding_a_lease() {
    try_all(vec![
        (rebooting(), received(Ack, ADDRESS), 1005, "bound", &["hold 10.0.0.5"]),
        (rebooting(), received(Ack, OTHER), 1005, "rebooting", &[]),
        (
            rebooting(),
            received(Nak, NONE),
            1005,
            "selecting",
            &[NOTE_AGAIN, "DISCOVER 50=10.0.0.5 to all"],
        ),
        (rebooting(), Event::Due, 3000, "rebooting", &["REQUEST 50=10.0.0.5 to all"]),
        (
            rebooting(),
            Event::Due,
            11_000,
            "bound",
            &["Note(\"no server confirmed the lease after the restart; it holds until its end\")"],
        ),
        (rebooting(), Event::Release, 1005, "ended", &[RELEASE, "Forget"]),
        (rebooting(), Event::Vanished, 1005, "ended", &["Forget"]),
        (bound_state(), received(Nak, NONE), 5, "bound", &[]),
        (bound_state(), Event::Due, 40_000, "renewing", &[ASK_RENEW]),
        (bound_state(), Event::Due, 70_000, "rebinding", &["REQUEST ciaddr=10.0.0.5 to all"]),
        (
            bound_state(),
            Event::Due,
            80_000,
            "selecting",
            &[NOTE_AGAIN, "DISCOVER 50=10.0.0.5 to all"],
        ),
        (bound_state(), Event::Release, 5, "ended", &[RELEASE, "Forget"]),
        (bound_state(), Event::Vanished, 5, "ended", &["Forget"]),
        (
            regaining(),
            received(Offer, ADDRESS),
            41_005,
            "requesting",
            &["REQUEST 50=10.0.0.5 54=10.0.0.1 to all"],
        ),
        (regaining(), received(Offer, OTHER), 41_005, "selecting", &[]),
        (regaining(), Event::Due, 43_000, "selecting", &["DISCOVER 50=10.0.0.5 to all"]),
        (
            regaining(),
            Event::Due,
            51_000,
            "ended",
            &["Lose(\"no server gives the same address again\")"],
        ),
        (regaining(), Event::Release, 41_005, "ended", &["Forget"]),
    ]);
}

#[test]
fn asking_for_more_time() {
    try_all(vec![
        (renewing(), received(Ack, ADDRESS), 40_005, "bound", &["hold 10.0.0.5"]),
        (renewing(), received(Ack, OTHER), 40_005, "renewing", &[]),
        (
            renewing(),
            received(Nak, NONE),
            40_005,
            "selecting",
            &[NOTE_AGAIN, "DISCOVER 50=10.0.0.5 to all"],
        ),
        (renewing(), Event::Due, 55_000, "renewing", &[ASK_RENEW]),
        (renewing(), Event::Due, 70_000, "rebinding", &["REQUEST ciaddr=10.0.0.5 to all"]),
        (renewing(), Event::Release, 40_005, "ended", &[RELEASE, "Forget"]),
        (renewing(), Event::Vanished, 40_005, "ended", &["Forget"]),
        (rebinding(), received(Ack, ADDRESS), 70_005, "bound", &["hold 10.0.0.5"]),
        (
            rebinding(),
            received(Nak, NONE),
            70_005,
            "selecting",
            &[NOTE_AGAIN, "DISCOVER 50=10.0.0.5 to all"],
        ),
        (rebinding(), Event::Due, 75_000, "rebinding", &["REQUEST ciaddr=10.0.0.5 to all"]),
        (rebinding(), Event::Due, 80_000, "ended", &["Lose(\"no server gave it more time\")"]),
        (rebinding(), Event::Release, 70_005, "ended", &[RELEASE, "Forget"]),
        (rebinding(), Event::Vanished, 70_005, "ended", &["Forget"]),
        (State::Ended, Event::Due, 5, "ended", &[]),
        (State::Ended, received(Ack, ADDRESS), 5, "ended", &[]),
        (State::Ended, Event::Release, 5, "ended", &["Forget"]),
    ]);
}

#[test]
fn answers_to_others() {
    let wrong: [fn(&mut Message); 4] = [
        |message| message.xid += 1,
        |message| message.chaddr = SERVER_MAC,
        |message| message.reply = false,
        |message| drop(message.options.remove(&code::MESSAGE_TYPE)),
    ];
    for change in wrong {
        for (state, kind) in
            [(selecting(), Kind::Offer), (requesting(), Kind::Ack), (renewing(), Kind::Nak)]
        {
            let mut message = answer(kind, ADDRESS, 80);
            change(&mut message);
            assert_eq!(hear(state.clone(), message, 5), (state, vec![]));
        }
    }
    // Another server's verdict on an offer that it did not make.
    let mut message = answer(Kind::Nak, ADDRESS, 80);
    message.options.insert(code::SERVER, vec![10, 0, 0, 2]);
    assert_eq!(hear(requesting(), message, 5), (requesting(), vec![]));
}

#[test]
fn deadlines() {
    let due = |state: &State| state.deadline().map(|time| time - START);
    assert_eq!(due(&selecting()), Some(1000));
    assert_eq!(due(&requesting()), Some(1000));
    assert_eq!(due(&bound_state()), Some(40_000));
    // Half of the 30 s until T2 is less than a minute; T2 comes first.
    assert_eq!(due(&renewing()), Some(70_000));
    assert_eq!(due(&rebinding()), Some(80_000));
    assert_eq!(due(&regaining()), Some(42_000));
    assert_eq!(due(&State::Ended), None);
    let waiting = [selecting(), requesting(), rebooting(), renewing(), rebinding()];
    assert!(waiting.iter().all(State::is_waiting));
    assert!(!bound_state().is_waiting() && !State::Ended.is_waiting());
}

#[test]
fn a_long_lease_is_asked_for_again_before_t2() {
    let (state, _) = hear(requesting(), answer(Kind::Ack, ADDRESS, 3600), 0);
    let (state, _) = happen(state, Event::Due, 1_800_000);
    // T2 is 1 350 s later.
    assert_eq!(state.deadline(), Some(START + 1_800_000 + 675_000));
    let (state, _) = happen(state, Event::Due, 2_475_000);
    assert_eq!(state.deadline(), Some(START + 2_475_000 + 337_500));
}

#[test]
fn renewals_move_the_times_and_keep_what_is_not_repeated() {
    let mut ack = answer(Kind::Ack, ADDRESS, 80);
    ack.options.remove(&code::SUBNET_MASK);
    let (_, actions) = hear(renewing(), ack, 40_500);
    let Some(Action::Hold(lease)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(lease.prefix(), Some(24));
    // They count from the question.
    let times = Times { renew: START + 80_000, rebind: START + 110_000, end: START + 120_000 };
    assert_eq!(lease.times, Some(times));
}

#[test]
fn for_ever() {
    let (state, _) = hear(requesting(), answer(Kind::Ack, ADDRESS, u32::MAX), 0);
    assert_eq!((name(&state), state.deadline()), ("bound", None));
}

#[test]
fn without_a_mask_it_is_given_back() {
    let mut ack = answer(Kind::Ack, ADDRESS, 80);
    ack.options.remove(&code::SUBNET_MASK);
    let step = hear(requesting(), ack, 5);
    assert_eq!(told(&step), ("ended", vec![RELEASE.to_owned(), "Fail(NoSubnetMask)".to_owned()]));
}

#[test]
fn another_address_is_no_substitute() {
    let (state, _) = hear(regaining(), answer(Kind::Offer, ADDRESS, 80), 41_005);
    let step = hear(state, answer(Kind::Ack, OTHER, 80), 41_010);
    let lost = "Lose(\"the server gave another address instead\")".to_owned();
    assert_eq!(told(&step), ("ended", vec![RELEASE.replace("0.5", "0.6"), lost]));
}

#[test]
fn a_lease_that_ended_while_nobody_looked() {
    let step = verify(lease(), &params(), at(80_000));
    let expected = vec![NOTE_AGAIN.to_owned(), "DISCOVER 50=10.0.0.5 to all".to_owned()];
    assert_eq!(told(&step), ("selecting", expected));
}

#[test]
fn what_questions_bear() {
    let (_, actions) = acquire(&params(), at(0));
    let [Action::Send(discover, To::All)] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(discover.broadcast && !discover.reply);
    assert_eq!((discover.xid, discover.secs, discover.chaddr), (XID, 0, MAC));
    let options: Vec<_> = discover.options.keys().copied().collect();
    assert_eq!(options, [code::MESSAGE_TYPE, code::PARAMETERS, code::MAX_SIZE, code::CLIENT_ID]);
    // What is repeated says how long it has taken so far.
    let (_, actions) = happen(selecting(), Event::Due, 3500);
    let [Action::Send(again, To::All)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((again.xid, again.secs), (XID, 3));
    // The address can be used by now: no need to broadcast.
    let (_, actions) = happen(bound_state(), Event::Due, 40_000);
    let [Action::Send(renew, _)] = actions.as_slice() else { panic!("{actions:?}") };
    assert!(!renew.broadcast);
    let (_, actions) = happen(bound_state(), Event::Release, 5);
    let Action::Send(release, _) = &actions[0] else { panic!("{actions:?}") };
    let options: Vec<_> = release.options.keys().copied().collect();
    assert_eq!(options, [code::MESSAGE_TYPE, code::SERVER, code::CLIENT_ID]);
}

/// The second half of the pauses grows although offers come and come to nothing.
#[test]
fn refused_offers_slow_down() {
    let (mut state, mut now) = (selecting(), 0);
    for _ in 0..6 {
        (state, _) = hear(state, answer(Kind::Offer, ADDRESS, 80), now);
        (state, _) = hear(state, answer(Kind::Nak, ADDRESS, 80), now);
        now = state.deadline().unwrap() - START;
        (state, _) = happen(state, Event::Due, now);
    }
    assert!(now > 30_000, "{now}");
}
