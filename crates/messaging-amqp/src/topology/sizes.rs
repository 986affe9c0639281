//! Queues that exist with another number of copies than is configured.
//!
//! The argument of a quorum queue says only on how many nodes it was made, and can't be changed. So
//! a queue that differs in nothing else is taken as it is, and who runs the server adds copies.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::agreement::current_value;
use super::{Argument, Queue};
use crate::error::Refusal;

/// The argument with the number of copies that a queue is made with.
pub(crate) const INITIAL_SIZE: &str = "x-quorum-initial-group-size";

/// The number of copies that a queue was made with; `None` where the server chose it.
pub(super) type Size = Option<i64>;

/// What is known of queues with other numbers of copies.
#[derive(Debug, Default)]
pub(super) struct Sizes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The number that was found last. Queues are mostly made together, so others have it too, and
    /// each wrong number costs a channel.
    last: Option<Size>,
    told: BTreeSet<String>,
}

impl Sizes {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that a queue which exists may have instead of the configured one.
    pub(super) fn last(&self) -> Option<Size> {
        self.lock().last
    }

    /// Notes the number that a queue has, and tells of each queue once.
    pub(super) fn note(&self, queue: &str, size: Size) {
        let mut known = self.lock();
        known.last = Some(size);
        if known.told.insert(queue.to_owned()) {
            let made_with = size.map_or("the server's choice".to_owned(), |size| size.to_string());
            tracing::warn!(
                queue,
                made_with,
                "it was made with another number of copies than RABBITMQ_HA_MODE asks for, and is \
                 used as it is; `rabbitmq-queues grow NODE all` adds copies"
            );
        }
    }
}

impl Queue {
    /// The same queue, made with another number of copies.
    pub(super) fn sized(&self, size: Size) -> Self {
        let mut queue = self.clone();
        match size {
            Some(size) => queue.arguments.insert(INITIAL_SIZE, Argument::Number(size)),
            None => queue.arguments.remove(INITIAL_SIZE),
        };
        queue
    }

    /// Whether it is kept in copies.
    pub(super) fn has_copies(&self) -> bool {
        self.arguments.get("x-queue-type") == Some(&Argument::Text("quorum".to_owned()))
    }
}

/// The number of copies that the queue has, where that is what the server refuses another one for.
pub(super) fn other_size(refusal: &Refusal) -> Option<Size> {
    let Refusal { code, text } = refusal;
    if *code != Refusal::PRECONDITION_FAILED || !text.contains(&format!("arg '{INITIAL_SIZE}'")) {
        return None;
    }
    match current_value(text) {
        Some(size) => Some(Some(size.parse().ok()?)),
        None => text.contains("but current is none").then_some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_over_the_number_of_copies_names_another_one() {
        let of = |text: &str| other_size(&Refusal { code: 406, text: text.to_owned() });
        let about = |arg: &str, current: &str| {
            format!(
                "PRECONDITION_FAILED - inequivalent arg '{arg}' for queue 'q' in vhost '/': \
                 received the value '3' of type 'long' but current is {current}"
            )
        };
        assert_eq!(of(&about(INITIAL_SIZE, "none")), Some(None));
        assert_eq!(of(&about(INITIAL_SIZE, "the value '5' of type 'long'")), Some(Some(5)));
        assert_eq!(of(&about(INITIAL_SIZE, "the value 'x' of type 'longstr'")), None);
        assert_eq!(of(&about("x-delivery-limit", "none")), None);
        let named_so =
            about("x-delivery-limit", "none").replace("'q'", "'x-quorum-initial-group-size'");
        assert_eq!(of(&named_so), None);
    }

    #[test]
    fn a_queue_of_another_size_is_the_same_in_everything_else() {
        let queue = Queue::quorum("q", Some(3)).with_delivery_limit(7);
        assert_eq!(queue.sized(None), Queue::quorum("q", None).with_delivery_limit(7));
        assert_eq!(queue.sized(Some(5)), Queue::quorum("q", Some(5)).with_delivery_limit(7));
    }
}
