use std::task::Waker;

use messaging_core::driver::Settle;
use messaging_core::{Settlement, Subject};

use super::*;

const BY_COPY: Returning = Returning::AsCopy { trial_after: 2 };
const ORDERED: Returning = Returning::InPlace { keyed: true, keeps_rejected: false };

fn desk(prefetch: u32, returning: Returning) -> Desk {
    let limits = Limits { prefetch: NonZeroU32::new(prefetch).unwrap(), bytes: None, fetched: 9 };
    Desk::new(2, limits, returning)
}

fn message(body: &str) -> Arc<Message> {
    let message = Message::new(Subject::from_static("tasks.n"), body.to_owned());
    Arc::new(message.with_id(body.parse().unwrap()))
}

fn arrival(body: &str, returns: u32) -> Arrival {
    Arrival { message: Some(message(body)), returns, ..Arrival::unseen() }
}

fn arrive(desk: &Desk, bodies: &[&str], returns: u32) {
    let arrivals = bodies.iter().map(|body| arrival(body, returns));
    desk.arrived(MAIN, desk.epoch(MAIN), arrivals);
}

/// What is handed out now.
fn take(desk: &Desk) -> Vec<Incoming> {
    let mut all = Vec::new();
    while let Poll::Ready(Some(Ok(event))) = desk.poll(&Context::from_waker(Waker::noop())) {
        if let Event::Messages(messages) = event {
            all.extend(messages);
        }
    }
    all
}

fn shown(incoming: &[Incoming]) -> Vec<(String, u32)> {
    let show =
        |one: &Incoming| (String::from_utf8_lossy(&one.message.body).into_owned(), one.attempt);
    incoming.iter().map(show).collect()
}

fn of(pairs: &[(&str, u32)]) -> Vec<(String, u32)> {
    pairs.iter().map(|(body, attempt)| ((*body).to_owned(), *attempt)).collect()
}

fn done(copy: &Copy) -> Copied {
    Copied { lane: copy.lane, of: copy.of, moved: copy.to == Target::Suspects, is_made: true }
}

fn acks(desk: &Desk) -> Vec<(u32, Acks)> {
    desk.take_work(true).acks
}

#[test]
fn hands_are_full_at_the_prefetch() {
    let desk = desk(2, BY_COPY);
    arrive(&desk, &["a", "b", "c"], 0);
    let held = take(&desk);
    assert_eq!(shown(&held), of(&[("a", 1), ("b", 1)]));
    desk.settle(Settle::new(held[1].token, Settlement::Ack)).unwrap();
    assert_eq!(shown(&take(&desk)), of(&[("c", 1)]));
    assert_eq!(acks(&desk), [(MAIN, Acks { up_to: None, single: vec![2] })]);
    let late = desk.settle(Settle::new(held[1].token, Settlement::Abandon));
    assert!(late.is_err(), "it was settled before");
}

#[test]
fn an_original_is_acked_once_its_copy_is_confirmed() {
    let desk = desk(9, BY_COPY);
    arrive(&desk, &["a"], 0);
    let held = take(&desk);
    let after = Duration::from_secs(1);
    desk.settle(Settle::new(held[0].token, Settlement::Retry { after })).unwrap();
    let mut work = desk.take_work(true);
    assert!(work.acks.is_empty());
    let copy = work.copies.pop().unwrap();
    assert_eq!((&copy.to, copy.attempt), (&Target::Tier(after), 2));
    desk.copied(done(&copy));
    assert_eq!(acks(&desk), [(MAIN, Acks { up_to: Some((1, false)), single: vec![] })]);
}

#[test]
fn what_comes_back_after_an_outage_is_where_it_was() {
    let desk = desk(9, BY_COPY);
    arrive(&desk, &["acked", "held", "retried"], 0);
    let held = take(&desk);
    arrive(&desk, &["waiting"], 0);
    desk.disconnected(MAIN);
    desk.settle(Settle::new(held[0].token, Settlement::Ack)).unwrap();
    let after = Duration::ZERO;
    desk.settle(Settle::new(held[2].token, Settlement::Retry { after })).unwrap();
    assert!(desk.take_work(true).copies.is_empty(), "another member may have it");
    arrive(&desk, &["acked", "held", "retried", "waiting"], 1);
    assert_eq!(shown(&take(&desk)), of(&[("waiting", 1)]), "nothing failed");
    let mut work = desk.take_work(true);
    assert_eq!(work.acks, [(MAIN, Acks { up_to: Some((1, false)), single: vec![] })]);
    let copy = work.copies.pop().unwrap();
    assert_eq!((&copy.to, copy.attempt), (&Target::Group, 2));
    desk.copied(done(&copy));
    desk.settle(Settle::new(held[1].token, Settlement::Ack)).unwrap();
    assert_eq!(acks(&desk), [(MAIN, Acks { up_to: Some((3, true)), single: vec![] })]);
}

#[test]
fn a_copy_that_was_on_its_way_is_made_once() {
    let desk = desk(9, BY_COPY);
    arrive(&desk, &["a"], 0);
    let held = take(&desk);
    desk.settle(Settle::new(held[0].token, Settlement::Abandon)).unwrap();
    let copy = desk.take_work(true).copies.pop().unwrap();
    desk.disconnected(MAIN);
    arrive(&desk, &["a"], 1);
    assert!(take(&desk).is_empty() && desk.take_work(true).copies.is_empty());
    desk.copied(done(&copy));
    assert_eq!(acks(&desk), [(MAIN, Acks { up_to: Some((1, false)), single: vec![] })]);
}

#[test]
fn a_retry_that_comes_back_from_another_member_is_not_its_acked_original() {
    let desk = desk(9, BY_COPY);
    arrive(&desk, &["a"], 0);
    let held = take(&desk);
    desk.settle(Settle::new(held[0].token, Settlement::Abandon)).unwrap();
    let copy = desk.take_work(true).copies.pop().unwrap();
    desk.copied(done(&copy));
    assert_eq!(acks(&desk).len(), 1);
    desk.disconnected(MAIN);
    let again = Arrival { attempt: 2, copy: 7, ..arrival("a", 1) };
    desk.arrived(MAIN, desk.epoch(MAIN), vec![again]);
    assert_eq!(shown(&take(&desk)), of(&[("a", 3)]));
    assert!(acks(&desk).is_empty(), "nobody has handled it");
}

#[test]
fn what_others_returned_counts_and_is_tried_alone_the_second_time() {
    let desk = desk(9, BY_COPY);
    arrive(&desk, &["once"], 1);
    arrive(&desk, &["twice"], 2);
    assert_eq!(shown(&take(&desk)), of(&[("once", 2)]));
    let copy = desk.take_work(true).copies.pop().unwrap();
    assert_eq!((&copy.to, copy.attempt), (&Target::Suspects, 3));
    desk.arrived(SUSPECTS, 0, vec![Arrival { attempt: 3, ..arrival("twice", 1) }]);
    desk.copied(done(&copy));
    assert!(take(&desk).is_empty(), "the original is not acked yet");
    assert_eq!(acks(&desk).len(), 1);
    desk.flushed();
    assert_eq!(shown(&take(&desk)), of(&[("twice", 4)]));
}

#[test]
fn what_came_back_often_is_tried_alone_before_all_of_it_counts() {
    let desk = desk(9, BY_COPY);
    // Three servers that restarted while it waited behind others are no reason to give it up.
    desk.arrived(MAIN, 0, vec![Arrival { attempt: 2, ..arrival("often", 3) }]);
    let copy = desk.take_work(true).copies.pop().unwrap();
    assert_eq!((&copy.to, copy.attempt), (&Target::Suspects, 4));
    desk.arrived(SUSPECTS, 0, vec![Arrival { attempt: 4, ..arrival("alone", 3) }]);
    desk.copied(done(&copy));
    desk.flushed();
    assert_eq!(shown(&take(&desk)), of(&[("alone", 7)]));
}

#[test]
fn leaving_gives_back_what_nobody_started_and_waits_for_the_rest() {
    let desk = desk(1, BY_COPY);
    arrive(&desk, &["held", "waiting"], 0);
    let held = take(&desk);
    desk.leave();
    let copy = desk.take_work(true).copies.pop().unwrap();
    assert_eq!(
        (&copy.to, copy.attempt, &copy.message.body[..]),
        (&Target::Group, 1, &b"waiting"[..])
    );
    desk.copied(done(&copy));
    assert!(!desk.is_done());
    desk.settle(Settle::new(held[0].token, Settlement::Ack)).unwrap();
    assert!(!desk.is_done(), "acks are not out yet, and all go at once");
    assert_eq!(acks(&desk).len(), 1);
    assert!(desk.is_done());
}

#[test]
fn an_ordered_group_keeps_what_is_behind_a_retry() {
    let desk = desk(9, ORDERED);
    let keyed = |body: &str, key: &str| {
        let message = Message::clone(&message(body)).with_key(key.to_owned());
        Arrival { message: Some(Arc::new(message)), ..Arrival::unseen() }
    };
    desk.arrived(MAIN, 0, vec![keyed("a1", "a"), keyed("a2", "a"), keyed("b1", "b")]);
    let held = take(&desk);
    assert_eq!(shown(&held), of(&[("a1", 1), ("b1", 1)]));
    desk.settle(Settle::new(held[0].token, Settlement::Abandon)).unwrap();
    let again = take(&desk);
    assert_eq!(shown(&again), of(&[("a1", 2)]));
    desk.settle(Settle::new(again[0].token, Settlement::Ack)).unwrap();
    assert_eq!(shown(&take(&desk)), of(&[("a2", 1)]));
    assert!(desk.take_work(true).copies.is_empty());
}

#[test]
fn a_lost_lane_of_an_ordered_group_begins_anew_and_knows_what_had_failed() {
    let desk = desk(9, ORDERED);
    arrive(&desk, &["a"], 0);
    let held = take(&desk);
    desk.settle(Settle::new(held[0].token, Settlement::Abandon)).unwrap();
    let held = take(&desk);
    desk.disconnected(MAIN);
    assert!(desk.settle(Settle::new(held[0].token, Settlement::Ack)).is_err());
    arrive(&desk, &["a"], 1);
    assert_eq!(shown(&take(&desk)), of(&[("a", 2)]));
}

#[test]
fn an_ordered_group_knows_its_acks_as_long_as_the_server_may_not() {
    let desk = desk(1, ORDERED);
    for body in ["a", "b", "c"] {
        arrive(&desk, &[body], 0);
        let held = take(&desk);
        desk.settle(Settle::new(held[0].token, Settlement::Ack)).unwrap();
        assert_eq!(acks(&desk).len(), 1);
    }
    desk.disconnected(MAIN);
    arrive(&desk, &["a", "b", "c"], 1);
    assert!(take(&desk).is_empty(), "they were handled");
    assert_eq!(acks(&desk), [(MAIN, Acks { up_to: Some((3, true)), single: vec![] })]);
}

#[test]
fn what_was_in_hand_of_a_deleted_queue_is_missed_unless_it_was_done() {
    let desk = desk(9, BY_COPY);
    arrive(&desk, &["done", "not done"], 0);
    let held = take(&desk);
    desk.deleted(MAIN);
    assert!(desk.settle(Settle::new(held[0].token, Settlement::Ack)).is_err());
    assert!(desk.settle(Settle::new(held[1].token, Settlement::Abandon)).is_err());
    let mut gaps = Vec::new();
    while let Poll::Ready(Some(Ok(event))) = desk.poll(&Context::from_waker(Waker::noop())) {
        if let Event::Gap(gap) = event {
            gaps.push(gap.missed);
        }
    }
    assert_eq!(gaps, [Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_would_soon_take_is_ended_before() {
    let desk = desk(1, BY_COPY);
    arrive(&desk, &["held", "waiting"], 0);
    let held = take(&desk);
    tokio::time::advance(Duration::from_secs(60)).await;
    let looked = || desk.poll(&Context::from_waker(Waker::noop()));
    assert!(!desk.expire(Duration::from_secs(61)) && looked().is_pending());
    assert!(!desk.expire(Duration::from_secs(60)));
    let Poll::Ready(Some(Ok(Event::Expired(expired)))) = looked() else { panic!("not told") };
    assert_eq!(expired.tokens, [held[0].token]);
    let copies = desk.take_work(true).copies;
    let shown: Vec<_> = copies.iter().map(|copy| (&copy.message.body[..], copy.attempt)).collect();
    assert_eq!(shown, [(&b"held"[..], 2), (b"waiting", 1)]);
    assert!(desk.settle(Settle::new(held[0].token, Settlement::Ack)).is_err());
}

#[test]
fn acks_wait_for_others_where_many_can_follow_but_for_nothing_else() {
    let limits = Limits { prefetch: NonZeroU32::new(32).unwrap(), bytes: None, fetched: 32 };
    let desk = Desk::new(2, limits, BY_COPY);
    arrive(&desk, &["a", "b", "c", "d", "e", "f", "g", "h"], 0);
    let held = take(&desk);
    let ack = |which: std::ops::Range<usize>| {
        for one in &held[which] {
            desk.settle(Settle::new(one.token, Settlement::Ack)).unwrap();
        }
    };
    let up_to = |tag, multiple| vec![(MAIN, Acks { up_to: Some((tag, multiple)), single: vec![] })];
    ack(0..1);
    let work = desk.take_work(false);
    assert!(work.acks.is_empty() && work.has_later);
    ack(1..4);
    assert_eq!(desk.take_work(false).acks, up_to(4, true), "enough");
    ack(4..5);
    assert_eq!(desk.take_work(true).acks, up_to(5, false), "it has waited");
    ack(5..6);
    desk.leave();
    ack(6..8);
    assert_eq!(desk.take_work(false).acks, up_to(8, true), "nothing will follow");
    assert!(!desk.take_work(false).has_later);
}

#[test]
fn what_nobody_can_be_handed_becomes_a_dead_letter_and_is_acked_once_that_is_confirmed() {
    for returning in [BY_COPY, ORDERED] {
        let desk = desk(9, returning);
        let faulty = |returns| Arrival { fault: Some("why".to_owned()), ..arrival("a", returns) };
        desk.arrived(MAIN, 0, vec![faulty(0), arrival("b", 0)]);
        assert_eq!(shown(&take(&desk)), of(&[("b", 1)]));
        let mut work = desk.take_work(true);
        assert!(work.acks.is_empty(), "it would be lost");
        let copy = work.copies.pop().unwrap();
        assert_eq!(copy.to, Target::DeadLetters { reason: "why".to_owned() });
        desk.disconnected(MAIN);
        desk.arrived(MAIN, 1, vec![faulty(1)]);
        assert!(desk.take_work(true).copies.is_empty(), "it is on its way");
        desk.copied(done(&copy));
        assert_eq!(acks(&desk), [(MAIN, Acks { up_to: Some((1, false)), single: vec![] })]);
    }
}

#[test]
fn a_dead_letter_that_nobody_can_be_handed_stays_where_it_is() {
    let desk = desk(9, Returning::InPlace { keyed: false, keeps_rejected: true });
    for epoch in 0..2 {
        let fault = Some("why".to_owned());
        desk.arrived(MAIN, epoch, vec![Arrival { fault, ..arrival("a", epoch) }]);
        assert!(take(&desk).is_empty());
        let work = desk.take_work(true);
        assert!(work.acks.is_empty() && work.copies.is_empty());
        desk.disconnected(MAIN);
    }
    desk.leave();
    assert!(desk.is_done());
}

#[test]
fn the_server_moves_the_original_of_a_copy_that_can_not_be_made_before_acks_that_cover_it() {
    let desk = desk(9, BY_COPY);
    arrive(&desk, &["a", "b"], 0);
    let held = take(&desk);
    let reason = "no".to_owned();
    desk.settle(Settle::new(held[0].token, Settlement::Reject { reason })).unwrap();
    desk.settle(Settle::new(held[1].token, Settlement::Ack)).unwrap();
    let mut work = desk.take_work(true);
    assert_eq!(work.acks, [(MAIN, Acks { up_to: None, single: vec![2] })]);
    let copy = work.copies.pop().unwrap();
    desk.copied(Copied { is_made: false, ..done(&copy) });
    let work = desk.take_work(true);
    assert_eq!((work.acks, work.rejects), (vec![], vec![(MAIN, 1)]));
    arrive(&desk, &["c"], 0);
    let held = take(&desk);
    desk.settle(Settle::new(held[0].token, Settlement::Ack)).unwrap();
    assert_eq!(acks(&desk), [(MAIN, Acks { up_to: Some((3, false)), single: vec![] })]);
    desk.disconnected(MAIN);
    arrive(&desk, &["a"], 1);
    assert_eq!(shown(&take(&desk)), of(&[("a", 2)]), "it was not moved");
}

#[test]
fn the_original_of_a_copy_that_can_not_be_made_comes_again_where_its_channel_was_lost() {
    let desk = desk(9, BY_COPY);
    arrive(&desk, &["a"], 0);
    let held = take(&desk);
    desk.settle(Settle::new(held[0].token, Settlement::Abandon)).unwrap();
    let copy = desk.take_work(true).copies.pop().unwrap();
    desk.disconnected(MAIN);
    desk.copied(Copied { is_made: false, ..done(&copy) });
    arrive(&desk, &["a"], 1);
    assert_eq!(shown(&take(&desk)), of(&[("a", 2)]));
    assert!(desk.take_work(true).rejects.is_empty());
}
