use std::time::{Duration, UNIX_EPOCH};

use futures::task::noop_waker_ref;
use messaging_core::driver::{Settle, Settlement};
use messaging_core::{Message, Subject};

use super::super::place::Content;
use super::*;
use crate::offsets::resume::{Resume, Standing};
use crate::read::encode::records;

fn place() -> Place {
    let partition = Partition::new("p.retry.g.1s", 0);
    Place { partition, content: Content::Retry }
}

fn due_at(offset: i64, at: Instant) -> Fetched {
    Fetched {
        offset,
        attempt: 2,
        standing: Standing::Done,
        message: Arc::new(Message::new(Subject::from_static("tasks.x"), "body")),
        stored_at: UNIX_EPOCH,
        origin: None,
        not_before: Some(at),
        handed: None,
    }
}

fn opened(desk: &Desk, place: Place) {
    for (partition, epoch) in desk.assign(vec![place], 1) {
        desk.open(vec![(partition, epoch, Resume::at(0))]);
    }
}

/// The messages that there are now.
fn hand_over(desk: &Desk) -> Vec<Token> {
    match desk.poll(&Context::from_waker(noop_waker_ref())) {
        Poll::Ready(Some(Ok(Event::Messages(all)))) => {
            all.into_iter().map(|one| one.token).collect()
        }
        Poll::Ready(Some(Ok(_))) => hand_over(desk),
        Poll::Ready(_) => panic!("the subscription ended"),
        Poll::Pending => Vec::new(),
    }
}

/// How many messages there are now.
fn look(desk: &Desk) -> usize {
    hand_over(desk).len()
}

#[tokio::test(start_paused = true)]
async fn retries_that_are_due_one_after_another_are_each_waited_for() {
    let desk = Desk::new(16, None, false, false, false, None);
    opened(&desk, place());
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    for due in [due_at(0, at(1)), due_at(1, at(3))] {
        desk.lock().lanes[0].add(due);
    }
    desk.lock().lanes[0].pass(2);
    for second in [1, 3] {
        assert_eq!(look(&desk), 0);
        desk.timer.notified().await;
        assert_eq!(desk.due(), Some(at(second)));
        tokio::time::sleep_until(at(second)).await;
        desk.wake();
        assert_eq!(look(&desk), 1);
    }
}

const BROKER: BrokerId = 1;

/// A desk for `tasks.x` alone, and what it wants to be fetched.
fn filtering() -> (Desk, Vec<Wanted>) {
    let patterns = Patterns::new(["tasks.x"]).unwrap();
    let desk = Desk::new(16, None, false, false, false, Some(patterns));
    let content = Content::Stream(Arc::new("tasks".parse().unwrap()));
    opened(&desk, Place { partition: Partition::new("p.tasks", 0), content });
    desk.set_leader(0, Some(BROKER));
    let (wanted, _) = desk.wanted(BROKER, |_| true, 0);
    (desk, wanted)
}

/// A key: of [`TURN`] messages with one like it a partition is full.
fn large() -> Option<Vec<u8>> {
    Some(vec![0; LANE_BUDGET.1 / TURN])
}

fn is_full(desk: &Desk) -> bool {
    let (wanted, full) = desk.wanted(BROKER, |_| true, 0);
    wanted.is_empty() && full
}

#[test]
fn what_matches_no_pattern_is_passed_in_turns_and_makes_room() {
    let (desk, wanted) = filtering();
    let last = 2 * TURN as i64;
    let subject = |at| if at == last { "tasks.x" } else { "tasks.y" };
    let all = records(0, (0..=last).map(|at| (at, subject(at), large())));
    desk.fetched(&wanted[0], vec![all], last + 1);
    assert!(is_full(&desk));
    let mut room = std::pin::pin!(desk.room.notified());
    room.as_mut().enable();
    assert_eq!([(); 3].map(|()| look(&desk)), [0, 0, 1]);
    assert!(room.poll(&mut Context::from_waker(noop_waker_ref())).is_ready());
    assert_eq!(desk.wanted(BROKER, |_| true, 0).0[0].offset, last + 1);
}

#[test]
fn a_batch_that_is_used_up_makes_room_though_nothing_of_it_goes_out() {
    let (desk, wanted) = filtering();
    let last = TURN as i64;
    let all = records(0, (0..last).map(|at| (at, "tasks.y", large())));
    desk.fetched(&wanted[0], vec![all], last);
    assert_eq!(look(&desk), 0);
    assert!(is_full(&desk));
    let mut room = std::pin::pin!(desk.room.notified());
    room.as_mut().enable();
    assert_eq!((look(&desk), desk.lock().lanes[0].waiting()), (0, 0));
    assert!(room.poll(&mut Context::from_waker(noop_waker_ref())).is_ready());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_retry_is_bounded_in_bytes() {
    let desk = Desk::new(1, None, true, true, false, None);
    opened(&desk, place());
    let large = Arc::new(Message::new(Subject::from_static("tasks.x"), vec![0; 1 << 20]));
    for offset in 0..100 {
        let message = Arc::clone(&large);
        desk.lock().lanes[0].add(Fetched { message, ..due_at(offset, Instant::now()) });
    }
    desk.lock().lanes[0].pass(100);
    let after = Duration::from_secs(5);
    let mut waiting = 0;
    while let Some(token) = hand_over(&desk).pop() {
        desk.settle_all([Settle::new(token, Settlement::Retry { after })].into_iter());
        waiting += 1;
    }
    assert_eq!(waiting, 17);
    tokio::time::advance(after).await;
    assert_eq!(hand_over(&desk).len(), 1);
}

#[test]
fn a_topic_that_is_not_known_for_a_moment_is_still_told_from_one_that_follows_it() {
    let (desk, wanted) = filtering();
    let lane = wanted[0].lane;
    assert!(desk.set_topic(lane, 1).is_none());
    assert!(desk.set_topic(lane, 0).is_none());
    let before = desk.set_topic(lane, 2).unwrap();
    assert_eq!((before.lane, before.offset), (lane, 0));
}
