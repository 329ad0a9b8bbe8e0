use proptest::prelude::*;

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn machine(restart: RestartPolicy) -> Machine {
    Machine::new(vec![Slot::fresh("a", 0), Slot::fresh("b", 0)], restart, s(30))
}

fn exited(name: &str, attempt: u32, code: u32) -> Event {
    Event::Exited { name: name.to_owned(), attempt, exit: Exit { code, oom: false } }
}

fn started(name: &str) -> Event {
    Event::Started { name: name.to_owned() }
}

fn start(name: &str, attempt: u32) -> Action {
    Action::Start { name: name.to_owned(), attempt }
}

fn signal(name: &str, signal: i32) -> Action {
    Action::Signal { name: name.to_owned(), attempt: 0, signal }
}

/// A pod whose containers both run since the given time.
fn running(restart: RestartPolicy, since: Duration) -> Machine {
    let mut machine = machine(restart);
    assert_eq!(machine.step(&Event::Begin, since), [Action::SetUpSandbox]);
    assert_eq!(machine.step(&Event::SandboxReady, since), [start("a", 0), start("b", 0)]);
    machine.step(&started("a"), since);
    machine.step(&started("b"), since);
    machine
}

#[test]
fn a_sandbox_that_fails_is_tried_again_ever_more_slowly() {
    let mut machine = machine(RestartPolicy::Always);
    machine.step(&Event::Begin, s(0));
    let mut now = s(0);
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(machine.step(&Event::SandboxFailed, now), []);
        assert_eq!(machine.deadline(), Some(now + s(pause)));
        assert_eq!(machine.step(&Event::Timer, now), [], "too early");
        now += s(pause);
        assert_eq!(machine.step(&Event::Timer, now), [Action::SetUpSandbox]);
    }
}

#[test]
fn restarts_back_off_and_forget() {
    let mut machine = running(RestartPolicy::Always, s(0));
    let mut now = s(1);
    for (attempt, pause) in [0, 10, 20, 40, 80, 160, 300, 300].into_iter().enumerate() {
        let attempt = u32::try_from(attempt).unwrap();
        assert_eq!(machine.step(&exited("a", attempt, 1), now), []);
        assert_eq!(machine.deadline(), Some(now + s(pause)));
        now += s(pause);
        assert_eq!(machine.step(&Event::Timer, now), [start("a", attempt + 1)]);
        machine.step(&started("a"), now);
    }
    now += s(600);
    machine.step(&exited("a", 8, 1), now);
    assert_eq!(machine.deadline(), Some(now), "ten minutes of running are forgiven");
}

#[test]
fn policies_decide_who_is_restarted() {
    let cases = [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::Always, 1, true),
        (RestartPolicy::OnFailure, 0, false),
        (RestartPolicy::OnFailure, 1, true),
        (RestartPolicy::Never, 1, false),
    ];
    for (policy, code, again) in cases {
        let mut machine = running(policy, s(0));
        let actions = machine.step(&exited("a", 0, code), s(1));
        assert_eq!(machine.slots[0].state != SlotState::Ended, again, "{policy:?} {code}");
        assert_eq!(actions == [Action::Remember], !again, "{policy:?} {code}");
        assert_eq!(machine.step(&exited("a", 0, code), s(2)), [], "an end is an end");
    }
}

#[test]
fn an_exit_of_an_earlier_attempt_is_old_news() {
    let mut machine = running(RestartPolicy::Always, s(0));
    machine.step(&exited("a", 0, 1), s(1));
    let before = machine.clone();
    machine.step(&exited("a", 0, 1), s(1));
    assert_eq!(machine, before);
}

#[test]
fn a_graceful_stop() {
    let mut machine = running(RestartPolicy::Always, s(0));
    assert_eq!(machine.step(&Event::Delete, s(10)), [signal("a", 15), signal("b", 15)]);
    assert_eq!(machine.step(&Event::Delete, s(11)), [], "once is enough");
    assert_eq!(machine.step(&exited("a", 0, 143), s(11)), []);
    assert_eq!(machine.step(&exited("b", 0, 143), s(12)), [Action::TearDown]);
    assert_eq!(machine.step(&Event::TornDown, s(13)), []);
    assert_eq!(machine.stage, Stage::Gone);
}

#[test]
fn whoever_does_not_listen_is_killed_and_removed() {
    let mut machine = running(RestartPolicy::Always, s(0));
    machine.step(&Event::Delete, s(10));
    machine.step(&exited("a", 0, 0), s(11));
    assert_eq!(machine.deadline(), Some(s(40)));
    assert_eq!(machine.step(&Event::Timer, s(40)), [signal("b", 9)]);
    assert_eq!(machine.step(&Event::Timer, s(45)), [Action::TearDown]);
    machine.step(&Event::TeardownFailed, s(46));
    assert_eq!(machine.step(&Event::Timer, s(47)), [Action::TearDown]);
}

#[test]
fn a_delete_before_anything_runs_tears_down() {
    let mut machine = machine(RestartPolicy::Always);
    machine.step(&Event::Begin, s(0));
    machine.step(&Event::SandboxFailed, s(0));
    assert_eq!(machine.step(&Event::Delete, s(0)), [Action::TearDown]);
    assert_eq!(machine.step(&Event::SandboxReady, s(0)), [], "overtaken");
}

#[test]
fn a_missing_image_is_waited_for() {
    let mut machine = running(RestartPolicy::Never, s(0));
    machine.slots[0].state = SlotState::Starting;
    let failed = Event::StartFailed {
        name: "a".into(),
        reason: "ErrImageNeverPull".into(),
        message: "import it".into(),
    };
    machine.step(&failed, s(5));
    let at = machine.deadline().unwrap();
    assert_eq!(machine.step(&Event::Timer, at), [start("a", 0)], "the attempt is the same");
}

#[test]
fn adopted_containers_go_on() {
    let slots = vec![Slot::running("a", 3, s(1)), Slot::fresh("b", 1)];
    let mut machine = Machine::adopt(slots, RestartPolicy::Always, s(30));
    assert_eq!(machine.step(&Event::Begin, s(5)), [start("b", 1)]);
    assert_eq!(machine.slots[0].state, SlotState::Running { since: s(1) });
}

#[test]
fn what_ended_for_good_before_a_reboot_stays_so() {
    let ended = |name| Slot::ended(name, 0, Exit { code: 0, oom: false });
    let mut over = Machine::new(vec![ended("a"), ended("b")], RestartPolicy::Never, s(30));
    assert_eq!(over.step(&Event::Begin, s(0)), [], "no sandbox is made for it");
    assert_eq!(over.step(&Event::Delete, s(1)), [Action::TearDown]);
    let slots = vec![ended("a"), Slot::fresh("b", 1)];
    let mut half = Machine::new(slots, RestartPolicy::OnFailure, s(30));
    assert_eq!(half.step(&Event::Begin, s(0)), [Action::SetUpSandbox]);
    assert_eq!(half.step(&Event::SandboxReady, s(1)), [start("b", 1)]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let name = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned())];
    prop_oneof![
        Just(Event::Begin),
        Just(Event::SandboxReady),
        Just(Event::SandboxFailed),
        Just(Event::Delete),
        Just(Event::TornDown),
        Just(Event::TeardownFailed),
        Just(Event::Timer),
        name.clone().prop_map(|name| Event::Started { name }),
        name.clone().prop_map(|name| Event::StartFailed {
            name,
            reason: String::new(),
            message: String::new()
        }),
        (name, 0u32..3, 0u32..2).prop_map(|(name, attempt, code)| Event::Exited {
            name,
            attempt,
            exit: Exit { code, oom: false }
        }),
    ]
}

proptest! {
    /// Whatever happens in whatever order: after a delete a world that answers brings the pod to its end.
    #[test]
    fn every_pod_can_be_deleted(events in proptest::collection::vec((any_event(), 0u64..1000), 0..40)) {
        let mut machine = machine(RestartPolicy::Always);
        let mut now = Duration::ZERO;
        for (event, pause) in events {
            now += s(pause);
            machine.step(&event, now);
        }
        let mut actions = machine.step(&Event::Delete, now);
        for _ in 0..20 {
            if machine.stage == Stage::Gone {
                break;
            }
            now = machine.deadline().unwrap_or(now).max(now);
            actions.extend(machine.step(&Event::Timer, now));
            if actions.contains(&Action::TearDown) || matches!(machine.stage, Stage::Teardown { retry: None }) {
                actions.extend(machine.step(&Event::TornDown, now));
            }
        }
        prop_assert_eq!(machine.stage, Stage::Gone);
    }
}
