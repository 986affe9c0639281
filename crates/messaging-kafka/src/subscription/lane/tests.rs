use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::group::Partition;
use crate::offsets::metadata::Progress;
use crate::read::encode::records;

fn place() -> Place {
    let stream = Arc::new("tasks".parse().unwrap());
    let content = super::super::place::Content::Stream(stream);
    Place { partition: Partition::new("p.tasks", 0), content }
}

/// A log of which every third offset holds nothing.
fn fetch(lane: &mut Lane, count: i64, end: i64) {
    let from = lane.fetch_at();
    let to = (from + count).min(end);
    let found = (from..to).filter(|offset| offset % 3 != 2);
    let found: Vec<_> =
        found.map(|at| (at - from, "tasks.x", Some(vec![(at % 5) as u8]))).collect();
    let batches = if found.is_empty() { vec![] } else { vec![records(from, found.into_iter())] };
    lane.fetched(batches, to);
}

#[derive(Clone, Debug)]
enum Step {
    Fetch(i64),
    Take,
    Ack(usize),
    Release(usize),
    Abandon(usize),
    Commit {
        answered: bool,
    },
    /// A commit goes out, and its answer comes at some later time.
    Send,
    Answer,
    Revoke,
    GoOn,
    Crash,
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..9_i64).prop_map(Step::Fetch),
        8 => Just(Step::Take),
        6 => (0..9_usize).prop_map(Step::Ack),
        1 => (0..9_usize).prop_map(Step::Release),
        1 => (0..9_usize).prop_map(Step::Abandon),
        4 => any::<bool>().prop_map(|answered| Step::Commit { answered }),
        3 => Just(Step::Send),
        3 => Just(Step::Answer),
        1 => Just(Step::Revoke),
        1 => Just(Step::GoOn),
        1 => Just(Step::Crash),
        1 => Just(Step::End),
    ]
}

/// A partition with its owners one after the other.
struct World {
    lane: Lane,
    reader: Reader,
    now: Instant,
    hands: Vec<Fetched>,
    acked: BTreeSet<i64>,
    /// Of that, what the present owner acked.
    own: BTreeSet<i64>,
    stored: Option<(i64, String)>,
    /// The commit on its way.
    sent: Option<Progress>,
    ordered: bool,
    /// What was in hand when an owner died: it may be blamed, nothing else.
    blamed: BTreeSet<i64>,
}

const END: i64 = 60;

impl World {
    fn new(ordered: bool, now: Instant) -> Self {
        let mut world = Self {
            lane: Lane::new(place(), ordered),
            reader: Reader::new(None, 3),
            now,
            hands: Vec::new(),
            acked: BTreeSet::new(),
            own: BTreeSet::new(),
            stored: None,
            sent: None,
            ordered,
            blamed: BTreeSet::new(),
        };
        world.take_over();
        world
    }

    fn take_over(&mut self) {
        self.hands.clear();
        self.own.clear();
        self.sent = None;
        let resume = self.resume();
        self.lane = Lane::new(place(), self.ordered);
        self.lane.open(resume, true);
    }

    /// One commit is on its way at a time.
    fn commit(&mut self, answered: bool) {
        if self.sent.is_none() {
            self.send();
        }
        self.answer(answered);
    }

    fn send(&mut self) {
        let progress = self.lane.progress(7);
        let unsettled = (0..progress.base).filter(|o| o % 3 != 2 && !self.acked.contains(o));
        assert_eq!(unsettled.collect::<Vec<_>>(), [] as [i64; 0], "skipped by a commit");
        // Whether it was answered or not, the broker may have it.
        self.stored = Some((progress.base, progress.encode()));
        self.sent = Some(progress);
    }

    fn answer(&mut self, taken: bool) {
        match self.sent.take() {
            Some(progress) if taken => self.lane.committed(progress.limit),
            Some(_) => self.lane.dirty = true,
            None => {}
        }
    }

    /// What the next owner hands out that this one acked.
    fn repeated(&self) -> Vec<i64> {
        let resume = self.resume();
        let again = self.own.iter().copied().filter(|offset| {
            *offset >= resume.start() && resume.standing(*offset, 1) != Standing::Done
        });
        again.collect()
    }

    fn resume(&self) -> Resume {
        self.stored.as_ref().map_or(Resume::at(0), |(base, text)| {
            Progress::decode(text, *base).map_or(Resume::at(*base), Resume::after)
        })
    }

    fn hand(&mut self, at: usize) -> Option<(Fetched, u32)> {
        if self.hands.is_empty() {
            return None;
        }
        let hand = self.hands.remove(at % self.hands.len());
        self.lane.in_hand -= 1;
        self.lane.ledger.take_back(hand.offset)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Fetch(count) if self.lane.state == State::Open => {
                fetch(&mut self.lane, *count, END)
            }
            Step::Take => {
                self.reader.rest();
                self.lane.read(&mut self.reader);
                if let Some(next) = self.lane.next(self.now, 100) {
                    assert!(!self.acked.contains(&next.offset) || self.stored.is_some());
                    let stored = self.resume().limit().is_some_and(|limit| next.offset < limit);
                    assert!(stored, "{} is handed out beyond the limit", next.offset);
                    if let Standing::Open { attempt, suspect: true } = next.standing
                        && attempt == next.attempt
                    {
                        let Standing::Open { attempt: later, .. } =
                            self.resume().standing(next.offset, 1)
                        else {
                            panic!("{} is settled for the next owner", next.offset)
                        };
                        assert!(later > attempt, "the attempt of {} is not stored", next.offset);
                    }
                    let known = self.hands.iter().any(|hand| hand.offset == next.offset);
                    assert!(!known, "{} is in hand already", next.offset);
                    self.lane.in_hand += 1;
                    self.lane.ledger.hand_out(next.offset, next.attempt, next.clone());
                    self.hands.push(next);
                }
            }
            Step::Ack(at) => {
                if let Some((hand, _)) = self.hand(*at) {
                    assert!(self.lane.settle(hand.offset, hand.message.key.as_ref()));
                    self.acked.insert(hand.offset);
                    self.own.insert(hand.offset);
                }
            }
            Step::Release(at) => {
                if let Some((hand, attempt)) = self.hand(*at) {
                    self.lane.come_again(hand, attempt, None);
                }
            }
            Step::Abandon(at) => {
                if let Some((hand, attempt)) = self.hand(*at) {
                    self.blamed.insert(hand.offset);
                    self.lane.come_again(hand, attempt + 1, None);
                }
            }
            Step::Commit { answered } => self.commit(*answered),
            Step::Send if self.sent.is_none() => self.send(),
            Step::Answer => self.answer(true),
            Step::Revoke if self.lane.state == State::Open => {
                self.lane.state = State::Revoked;
                self.lane.forget_fetched();
            }
            Step::GoOn if self.lane.state == State::Revoked => self.lane.go_on(),
            Step::Crash => {
                self.blamed.extend(self.hands.iter().map(|hand| hand.offset));
                self.take_over();
            }
            Step::End => {
                // Everything in hand is given back, and the end is committed.
                while let Some((hand, attempt)) = self.hand(0) {
                    self.lane.come_again(hand, attempt, None);
                }
                self.lane.state = State::Revoked;
                self.lane.forget_fetched();
                self.answer(true);
                self.commit(true);
                assert!(self.lane.is_released());
                self.take_over();
            }
            Step::Fetch(_) | Step::Send | Step::Revoke | Step::GoOn => {}
        }
        if self.lane.is_released() {
            assert_eq!(self.repeated(), [] as [i64; 0], "handed over before it was committed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Owners that die, end in order, are asked back and go on: no commit covers what was not acked,
    /// nothing goes out beyond what was allowed or twice at once, and in the end all is acked.
    #[test]
    fn nothing_is_skipped_whatever_happens(
        ordered: bool,
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let now = Instant::now() + Duration::from_secs(3_600);
        let mut world = World::new(ordered, now);
        for one in &steps {
            world.step(one);
        }
        world.step(&Step::Crash);
        for _ in 0..2_000 {
            for one in [Step::Fetch(5), Step::Commit { answered: true }, Step::Take, Step::Ack(0)] {
                world.step(&one);
            }
        }
        let all: BTreeSet<i64> = (0..END).filter(|offset| offset % 3 != 2).collect();
        prop_assert_eq!(&world.acked, &all);
        world.step(&Step::End);
        prop_assert_eq!(world.stored.as_ref().map(|stored| stored.0), Some(END));
    }
}

#[test]
fn a_message_that_kills_its_worker_is_found_and_its_neighbours_are_not_blamed() {
    const KILLER: i64 = 6;
    let mut world = World::new(false, Instant::now());
    let mut attempts: BTreeMap<i64, u32> = BTreeMap::new();
    let mut found = false;
    for _ in 0..10_000 {
        world.step(&Step::Fetch(5));
        world.step(&Step::Commit { answered: true });
        world.step(&Step::Take);
        let Some(hand) = world.hands.last() else { continue };
        let most = attempts.entry(hand.offset).or_default();
        *most = hand.attempt.max(*most);
        if hand.attempt > 4 {
            assert_eq!(hand.offset, KILLER);
            found = true;
            world.step(&Step::Ack(world.hands.len() - 1));
        } else if hand.offset == KILLER {
            world.step(&Step::Crash);
        } else if world.hands.len() > 3 || hand.attempt > 1 {
            world.step(&Step::Ack(0));
        }
        if world.acked.len() == 40 {
            break;
        }
    }
    assert!(found, "{attempts:?}");
    let worst =
        attempts.iter().filter(|(offset, _)| **offset != KILLER).map(|(_, most)| *most).max();
    assert!(worst.unwrap() <= 4, "{attempts:?}");
}
