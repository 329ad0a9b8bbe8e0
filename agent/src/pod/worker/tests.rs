use std::time::SystemTime;

use super::*;
use crate::runtime::PodRef;

fn info(attempt: u32, state: ContainerState) -> ContainerInfo {
    ContainerInfo {
        id: "c".into(),
        pod: PodRef::default(),
        container: "c".into(),
        attempt,
        image: String::new(),
        labels: BTreeMap::new(),
        state,
        created_at: None,
    }
}

fn exited(code: u32) -> ContainerState {
    ContainerState::Exited { code, at: SystemTime::now(), oom: false }
}

const RUNNING: ContainerState = ContainerState::Running { pid: 1 };

#[test]
fn a_container_goes_on_from_what_is_left_of_it() {
    use ContainerState::{Created, Unknown};
    use RestartPolicy::{Always, Never, OnFailure};
    let end = |attempt, code| Slot::ended("c", attempt, Exit { code, oom: false });
    let fresh = |attempt| Slot::fresh("c", attempt);
    let running = Slot::running("c", 2, Duration::ZERO);
    let cases = [
        // (state of the newest, attempt 2), policy, sandbox is there, outcome
        (None, Always, true, fresh(0)),
        (None, Always, false, fresh(0)),
        (Some(Created), Always, true, fresh(2)),
        (Some(Created), Never, false, fresh(2)),
        (Some(RUNNING), Always, true, running.clone()),
        (Some(RUNNING), Always, false, fresh(3)),
        (Some(exited(0)), Never, true, running.clone()),
        (Some(exited(1)), Always, true, running),
        (Some(exited(1)), Always, false, fresh(3)),
        (Some(exited(0)), OnFailure, false, end(2, 0)),
        (Some(exited(1)), OnFailure, false, fresh(3)),
        (Some(exited(1)), Never, false, end(2, 1)),
        (Some(Unknown), Never, true, fresh(2)),
        (Some(Unknown), OnFailure, false, fresh(3)),
        (Some(Unknown), Always, true, fresh(3)),
    ];
    for (state, policy, goes_on, expected) in cases {
        let newest = state.map(|state| info(2, state));
        let found = slot("c", newest.as_ref(), None, policy, goes_on);
        assert_eq!(found, expected, "{newest:?} {policy:?} {goes_on}");
    }
}

#[test]
fn what_was_written_down_counts_until_there_is_something_newer() {
    let ended = Progress { attempt: 2, exit: Some(Exit { code: 0, oom: false }) };
    let begin = |newest: Option<ContainerInfo>| {
        slot("c", newest.as_ref(), Some(&ended), RestartPolicy::OnFailure, false)
    };
    let end = Slot::ended("c", 2, Exit { code: 0, oom: false });
    assert_eq!(begin(None), end);
    assert_eq!(begin(Some(info(2, ContainerState::Unknown))), end);
    assert_eq!(begin(Some(info(3, RUNNING))), Slot::fresh("c", 4));
}

#[test]
fn what_was_started_once_is_not_started_again() {
    let started = |attempt| Progress { attempt, exit: None };
    let begin = |newest: Option<ContainerInfo>, progress: Progress| {
        slot("c", newest.as_ref(), Some(&progress), RestartPolicy::Never, false)
    };
    assert_eq!(
        begin(Some(info(0, ContainerState::Unknown)), started(0)),
        Slot::ended("c", 0, LOST)
    );
    assert_eq!(begin(None, started(0)), Slot::ended("c", 0, LOST));
    assert_eq!(begin(Some(info(1, ContainerState::Unknown)), started(0)), Slot::fresh("c", 1));
}

#[test]
fn outcomes() {
    assert_eq!(outcome(&[], "c"), None);
    assert_eq!(outcome(&[info(0, ContainerState::Unknown)], "c"), None);
    assert_eq!(outcome(&[info(0, RUNNING)], "c"), Some(None));
    assert_eq!(outcome(&[info(0, exited(3))], "c"), Some(Some(Exit { code: 3, oom: false })));
}
