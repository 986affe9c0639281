//! Notices that come faster than they may be written.

use std::fmt;
use std::mem::{discriminant, take};
use std::time::Duration;

use messaging_core::observe::Notice;
use tokio::time::Instant;

/// How much time lies between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// What was written last, and what has come since.
#[derive(Debug, Default)]
pub(super) struct Burst {
    /// Until when nothing is written.
    until: Option<Instant>,
    /// One of each kind.
    held: Vec<Held>,
}

/// Notices of one kind.
#[derive(Debug)]
struct Held {
    /// The last; what can be added up is.
    notice: Notice,
    times: u64,
}

/// What becomes of a notice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// What is to be written now.
    pub(super) line: Option<String>,
    /// When somebody has to call [`Burst::end`], as it is the first that is held back.
    pub(super) held_until: Option<Instant>,
}

impl Burst {
    /// Takes a notice, which is to be written now or is held back.
    pub(super) fn take(&mut self, notice: &Notice, now: Instant) -> Taken {
        let until = self.until.filter(|until| now < *until);
        let is_first = self.held.is_empty();
        self.hold(notice);
        match until {
            Some(until) => Taken { line: None, held_until: is_first.then_some(until) },
            None => {
                self.until = Some(now + PAUSE);
                Taken { line: self.line(), held_until: None }
            }
        }
    }

    /// What is left to be written when the time has come.
    pub(super) fn end(&mut self) -> Option<String> {
        let line = self.line()?;
        self.until = Some(Instant::now() + PAUSE);
        Some(line)
    }

    fn hold(&mut self, notice: &Notice) {
        let same = |held: &&mut Held| discriminant(&held.notice) == discriminant(notice);
        match self.held.iter_mut().find(same) {
            Some(held) => held.add(notice),
            None => self.held.push(Held { notice: notice.clone(), times: 1 }),
        }
    }

    fn line(&mut self) -> Option<String> {
        let held: Vec<String> = take(&mut self.held).iter().map(Held::to_string).collect();
        (!held.is_empty()).then(|| held.join("; "))
    }
}

impl Held {
    fn add(&mut self, next: &Notice) {
        self.times += 1;
        match (&mut self.notice, next) {
            (Notice::Gap(sum), Notice::Gap(gap)) => {
                sum.missed = sum.missed.zip(gap.missed).map(|(sum, missed)| sum + missed);
                sum.reason.clone_from(&gap.reason);
            }
            (Notice::Lost(all), Notice::Lost(lanes)) => {
                let new: Vec<u32> = lanes.iter().filter(|lane| !all.contains(*lane)).collect();
                *all = all.iter().chain(new).collect();
            }
            (Notice::Expired(all), Notice::Expired(next)) => all.tokens.extend(&next.tokens),
            (last, next) => *last = next.clone(),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { notice, times } = self;
        match (times, notice) {
            (1, notice) => write!(f, "{notice}"),
            (times, Notice::Gap(_) | Notice::Lost(_) | Notice::Expired(_)) => {
                write!(f, "{notice} ({times} times)")
            }
            (times, last) => write!(f, "{last} (the last of {times})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use messaging_core::driver::{Gap, Lanes};
    use messaging_core::{MessageId, Subject};

    use super::*;

    fn lost(lane: u32) -> Notice {
        Notice::Lost(Lanes::from_iter([lane]))
    }

    fn gap(missed: Option<u64>) -> Notice {
        Notice::Gap(Gap::new(missed, "trimmed"))
    }

    fn refused(id: &str) -> Notice {
        let id: MessageId = id.parse().unwrap();
        let subject = Subject::from_static("tasks.x");
        Notice::Refused { subject, id, reason: "not settled by 4 attempts".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_a_line_a_second_in_which_nothing_is_missing() {
        let mut burst = Burst::default();
        let began = Instant::now();
        let first = burst.take(&lost(0), began);
        assert_eq!(first, Taken { line: Some("lanes lost: 0".to_owned()), held_until: None });
        let second = began + PAUSE;
        let held = [lost(1), gap(Some(2)), refused("a"), lost(2), gap(Some(3)), refused("b")];
        for (number, notice) in held.iter().enumerate() {
            let held_until = (number == 0).then_some(second);
            assert_eq!(burst.take(notice, began), Taken { line: None, held_until });
        }
        tokio::time::advance(PAUSE).await;
        let line = burst.end().unwrap();
        assert_eq!(
            line,
            "lanes lost: 1 2 (2 times); 5 messages missed: trimmed (2 times); message b to tasks.x \
             dead-lettered: not settled by 4 attempts (the last of 2)"
        );
        assert_eq!(burst.end(), None);
        // That was a line too.
        assert_eq!(burst.take(&lost(3), Instant::now()).line, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_came_for_is_written_with_the_next() {
        let mut burst = Burst::default();
        burst.take(&gap(Some(1)), Instant::now());
        burst.take(&gap(None), Instant::now());
        tokio::time::advance(PAUSE).await;
        let line = burst.take(&gap(Some(7)), Instant::now()).line;
        assert_eq!(line.as_deref(), Some("messages missed: trimmed (2 times)"));
    }
}
