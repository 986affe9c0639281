use std::collections::VecDeque;

use messaging_core::{Error, ErrorKind};

use super::super::Partition;
use super::*;

const SESSION: Duration = Duration::from_secs(6);

fn settings(instance: Option<&str>) -> Settings {
    Settings {
        group: "g".into(),
        name: "g".into(),
        instance: instance.map(str::to_owned),
        patterns: vec!["t.#".into()],
        session: SESSION,
        rebalance: SESSION * 2,
        heartbeat: Duration::from_secs(1),
        seed: 7,
    }
}

/// A member alone in its group, in which everything is answered at once.
fn stable(now: Instant, instance: Option<&str>) -> Member {
    let mut member = Member::new(settings(instance), now);
    let known = Partitions::from([Partition::new("t", 0), Partition::new("t", 1)]);
    let mut actions = VecDeque::from(member.on(now, Event::Discovered(known)));
    while let Some(action) = actions.pop_front() {
        let Action::Request { call, request, .. } = action else { continue };
        let answer = match request {
            Request::Find => Answer::Found,
            Request::Join { claim, .. } => Answer::Joined(Joined {
                generation: 1,
                member: "m".into(),
                members: Some(vec![("m".into(), claim)]),
            }),
            Request::Sync { assignments, .. } => Answer::Synced(assignments[0].1.clone()),
            Request::Beat { .. } => Answer::Alive,
            Request::Leave { .. } => Answer::Left,
        };
        actions.extend(member.on(now, Event::Answered { call, answer: Ok(answer) }));
    }
    assert!(member.is_stable());
    assert_eq!(member.held().len(), 2);
    member
}

fn lost(actions: &[Action]) -> usize {
    let lost = |action: &Action| match action {
        Action::Lost(partitions) => partitions.len(),
        _ => 0,
    };
    actions.iter().map(lost).sum()
}

#[tokio::test(start_paused = true)]
async fn a_member_that_nobody_answers_gives_everything_up_after_a_session_by_its_own_clock() {
    let now = Instant::now();
    let mut member = stable(now, None);
    assert_eq!(member.fenced_at(), now + SESSION);
    let mut at = now;
    let almost = now + SESSION - Duration::from_millis(1);
    while at < almost {
        at = member.deadline().unwrap().max(at + Duration::from_millis(1)).min(almost);
        assert_eq!(lost(&member.on(at, Event::Tick)), 0, "{:?}", at - now);
    }
    assert_eq!(lost(&member.on(now + SESSION, Event::Tick)), 2);
    assert!(member.held().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_finds_its_partitions_lost_before_anything_else() {
    let now = Instant::now();
    let mut member = stable(now, None);
    let late = now + SESSION * 5;
    let actions = member.on(late, Event::Released(Partition::new("t", 0)));
    assert!(matches!(actions.first(), Some(Action::Lost(all)) if all.len() == 2), "{actions:?}");
}

#[tokio::test(start_paused = true)]
async fn two_processes_of_one_name_end_the_first_loudly_and_for_good() {
    const FENCED: i16 = 82;
    let now = Instant::now();
    let mut member = stable(now, Some("one"));
    let actions = member.on(now, Event::Refused { generation: 1, code: FENCED });
    assert_eq!(lost(&actions), 2);
    assert!(actions.iter().any(|action| matches!(action, Action::Failed(_))), "{actions:?}");
    assert!(matches!(actions.last(), Some(Action::Ended)));
    assert!(member.deadline().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_member_with_a_name_of_its_own_keeps_its_place_when_it_ends() {
    let now = Instant::now();
    let says_so = |instance| stable(now, instance).on(now, Event::Leave).iter().any(leaves);
    assert!(says_so(None));
    assert!(!says_so(Some("one")));
}

#[tokio::test(start_paused = true)]
async fn a_member_about_to_leave_asks_for_nothing_and_says_what_it_still_has() {
    let now = Instant::now();
    let mut member = stable(now, None);
    let actions = member.on(now, Event::Retire);
    let claim = actions.iter().find_map(|action| match action {
        Action::Request { request: Request::Join { claim, .. }, .. } => Some(claim),
        _ => None,
    });
    let claim = super::super::claim::Claim::decode(claim.unwrap()).unwrap();
    assert!(claim.patterns.is_empty());
    assert_eq!(claim.owned.len(), 2);
    assert!(member.on(now, Event::Retire).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_progress_is_given_up_alone() {
    let now = Instant::now();
    let mut member = stable(now, None);
    let one = Partitions::from([Partition::new("t", 1)]);
    let actions = member.on(now, Event::Stuck(one.clone()));
    assert!(matches!(&actions[0], Action::Lost(lost) if *lost == one), "{actions:?}");
    let joins =
        |action: &Action| matches!(action, Action::Request { request: Request::Join { .. }, .. });
    assert!(actions.iter().any(joins), "{actions:?}");
    assert_eq!(member.held(), Partitions::from([Partition::new("t", 0)]));
}

fn leaves(action: &Action) -> bool {
    matches!(action, Action::Request { request: Request::Leave { .. }, .. })
}

/// Under which name it joins, if it does.
fn joins_as(actions: &[Action]) -> Option<(Call, &str)> {
    actions.iter().find_map(|action| match action {
        Action::Request { call, request: Request::Join { member, .. }, .. } => {
            Some((*call, member.as_str()))
        }
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_be_unknown_keeps_its_name_for_a_while_as_the_group_may_be_loading() {
    const UNKNOWN: i16 = 25;
    let mut at = Instant::now();
    let mut member = stable(at, None);
    let mut actions = member.on(at, Event::Refused { generation: 1, code: UNKNOWN });
    assert_eq!(lost(&actions), 2);
    let since = at;
    loop {
        let Some((call, name)) = joins_as(&actions) else {
            at = member.deadline().unwrap();
            actions = member.on(at, Event::Tick);
            continue;
        };
        if name.is_empty() {
            break;
        }
        assert_eq!(name, "m");
        assert!(at < since + DOUBT * 3, "it never takes another name");
        actions = member.on(at, Event::Answered { call, answer: Err(Fault::Code(UNKNOWN)) });
    }
    assert!(at >= since + DOUBT);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_a_coordinator_lost_while_it_came_back_is_asked_again_soon() {
    let mut at = Instant::now();
    let mut member = stable(at, None);
    let mut joins = Vec::new();
    // The beat breaks, and what was joined after that is never answered.
    while joins.len() < 3 {
        at = member.deadline().unwrap().max(at);
        let mut actions = VecDeque::from(member.on(at, Event::Tick));
        while let Some(action) = actions.pop_front() {
            let Action::Request { call, request, .. } = action else { continue };
            let answer = match request {
                Request::Find => Ok(Answer::Found),
                Request::Beat { .. } if joins.is_empty() => Err(Fault::Broken),
                Request::Beat { .. } => Err(Fault::Code(27)),
                Request::Join { .. } => {
                    joins.push(at);
                    continue;
                }
                other => unreachable!("{other:?}"),
            };
            actions.extend(member.on(at, Event::Answered { call, answer }));
        }
    }
    for (first, second) in joins.iter().zip(&joins[1..]) {
        assert_eq!(*second - *first, PATIENCE);
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_it_has_a_name_gives_back_the_one_it_gets() {
    let now = Instant::now();
    let mut member = Member::new(settings(None), now);
    let known = Partitions::from([Partition::new("t", 0)]);
    let asked = |actions: &[Action]| match actions {
        [Action::Request { call, request, .. }] => (*call, format!("{request:?}")),
        other => panic!("{other:?}"),
    };
    let (find, _) = asked(&member.on(now, Event::Discovered(known)));
    let (join, _) =
        asked(&member.on(now, Event::Answered { call: find, answer: Ok(Answer::Found) }));
    assert!(member.on(now, Event::Leave).is_empty());
    let named = Ok(Answer::Named("m".into()));
    let (leave, request) = asked(&member.on(now, Event::Answered { call: join, answer: named }));
    assert_eq!(request, format!("{:?}", Request::Leave { member: "m".into() }));
    let actions = member.on(now, Event::Answered { call: leave, answer: Ok(Answer::Left) });
    assert!(matches!(actions[..], [Action::Ended]));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_joins_tells_the_coordinator_that_it_knows() {
    let now = Instant::now();
    let mut member = stable(now, None);
    let join = member.on(now, Event::Retire);
    assert!(joins_as(&join).is_some(), "{join:?}");
    let actions = member.on(now, Event::Leave);
    assert!(actions.len() == 1 && leaves(&actions[0]), "{actions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_is_found_again_to_be_told_that_we_leave() {
    const NOT_COORDINATOR: i16 = 16;
    let mut at = Instant::now();
    let mut member = stable(at, None);
    let mut actions = VecDeque::from(member.on(at, Event::Leave));
    let mut asked = Vec::new();
    loop {
        let Some(action) = actions.pop_front() else {
            let Some(deadline) = member.deadline() else { break };
            at = deadline.max(at);
            actions.extend(member.on(at, Event::Tick));
            continue;
        };
        let Action::Request { call, request, .. } = action else { continue };
        let answer = match request {
            Request::Find => Ok(Answer::Found),
            Request::Leave { .. } if asked.is_empty() => Err(Fault::Code(NOT_COORDINATOR)),
            Request::Leave { .. } => Ok(Answer::Left),
            other => unreachable!("{other:?}"),
        };
        asked.push(format!("{request:?}"));
        actions.extend(member.on(at, Event::Answered { call, answer }));
    }
    let leave = format!("{:?}", Request::Leave { member: "m".into() });
    assert_eq!(asked, [leave.clone(), "Find".to_owned(), leave]);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_commit_leaves_so_that_nobody_waits_for_it() {
    let now = Instant::now();
    let mut member = stable(now, None);
    let denied = Error::new(ErrorKind::Denied, "topic tasks");
    let actions = member.on(now, Event::Denied(denied));
    assert_eq!(lost(&actions), 2);
    let is_failed = |action: &Action| {
        matches!(action, Action::Failed(error) if *error.kind() == ErrorKind::Denied
            && error.to_string().contains("tasks"))
    };
    assert!(actions.iter().any(is_failed), "{actions:?}");
    assert!(actions.iter().any(leaves), "{actions:?}");
}
