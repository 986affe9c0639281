//! What groups are made of.

use std::time::Duration;

use messaging_core::{GroupName, Message, Patterns};

use super::{Argument, Declaration, ExchangeKind, Names, Queue, shape_of, value_of};

/// After how many returns the server moves a message to the dead letters by itself: the last resort,
/// far above the attempts that we count.
const RETURNS: i64 = 100;

/// What a group receives and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupShape {
    pub(crate) name: GroupName,
    pub(crate) patterns: Patterns,
    pub(crate) ordered: bool,
    pub(crate) priority: bool,
}

impl GroupShape {
    /// What its members agree on, as it is shown.
    pub(crate) fn shape(&self) -> String {
        shape_of(&self.patterns, self.ordered, self.priority)
    }

    /// Everything that it consists of, in the order in which it is declared: the marker first, so
    /// that a member with other patterns creates nothing, and what brings messages last.
    pub(crate) fn declarations(&self, names: &Names, tiers: &[Duration]) -> Vec<Declaration> {
        let mut all = vec![marker(names, &self.name, &self.shape()).into()];
        all.push(self.queue(names).into());
        // A retry in an ordered group is in place, and its first message has to be settled before
        // another member gets any.
        if !self.ordered {
            all.extend(self.places_of_copies(names, tiers));
        }
        all.extend(self.bindings(names));
        all
    }

    /// The queue that its members consume.
    pub(crate) fn queue(&self, names: &Names) -> Queue {
        let name = self.name.as_str();
        if self.priority {
            // A quorum queue has no priorities, and a classic one no limit of returns.
            return Queue::priority(name, Message::MAX_PRIORITY)
                .with_text("x-dead-letter-exchange", names.dead_letter_exchange());
        }
        let queue = Queue::quorum(name, names.copies)
            .with_delivery_limit(RETURNS)
            .with_dead_letters_to(names.dead_letter_exchange());
        if self.ordered {
            return queue.with("x-single-active-consumer", Argument::Flag(true));
        }
        queue
    }

    /// One binding for each pattern.
    pub(crate) fn bindings(&self, names: &Names) -> Vec<Declaration> {
        bindings(names, self.name.as_str(), &self.patterns)
    }

    /// Where copies wait and come back. All are fanout exchanges, which keep the routing key, the
    /// message's subject.
    fn places_of_copies(&self, names: &Names, tiers: &[Duration]) -> Vec<Declaration> {
        let fanout = |name: &str| Declaration::exchange(name, ExchangeKind::Fanout, names.durable);
        let returned = names.returned(&self.name);
        let mut all =
            vec![fanout(&returned), Declaration::binding(&returned, self.name.as_str(), "")];
        let suspects = names.suspects(&self.name);
        // One of them at a time is out in the whole group, so that a message that kills its worker
        // is alone when it does.
        let queue = Queue::quorum(&suspects, names.copies)
            .with_delivery_limit(RETURNS)
            .with_dead_letters_to(names.dead_letter_exchange())
            .with("x-single-active-consumer", Argument::Flag(true));
        all.extend([
            fanout(&suspects),
            queue.into(),
            Declaration::binding(&suspects, &suspects, ""),
        ]);
        for tier in tiers {
            let place = names.retry(&self.name, *tier);
            let queue = Queue::quorum(&place, names.copies)
                .with_time_limit(*tier)
                .with_dead_letters_to(&returned);
            all.extend([fanout(&place), queue.into(), Declaration::binding(&place, &place, "")]);
        }
        all
    }
}

/// The queue without messages that keeps what the members of a group agree on.
pub(crate) fn marker(names: &Names, group: &GroupName, shape: &str) -> Queue {
    Queue::quorum(names.marker(group), names.copies)
        .with_text("x-dead-letter-exchange", "")
        .with_text("x-dead-letter-routing-key", value_of(shape))
}

/// One binding of a queue for each pattern.
pub(crate) fn bindings(names: &Names, queue: &str, patterns: &Patterns) -> Vec<Declaration> {
    let bind = |pattern: &messaging_core::Pattern| {
        Declaration::binding(names.exchange(), queue, pattern.as_ref())
    };
    patterns.iter().map(bind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("helixagent", "helixagent", true, None)
    }

    fn worker_queue() -> GroupShape {
        GroupShape {
            name: "worker-queue".parse().unwrap(),
            patterns: Patterns::new(["tasks.*", "completions.#"]).unwrap(),
            ordered: false,
            priority: false,
        }
    }

    fn queue<'a>(all: &'a [Declaration], name: &str) -> &'a Queue {
        let named = |declaration: &&Declaration| matches!(declaration, Declaration::Queue(queue) if queue.name == name);
        match all.iter().find(named) {
            Some(Declaration::Queue(queue)) => queue,
            _ => panic!("there is no queue {name}"),
        }
    }

    fn text(value: &str) -> Argument {
        Argument::Text(value.to_owned())
    }

    #[test]
    fn a_group_is_a_durable_quorum_queue_of_its_name_bound_to_its_patterns() {
        let all = worker_queue().declarations(&names(), &[]);
        let queue = queue(&all, "worker-queue");
        assert!(queue.durable && !queue.exclusive);
        assert_eq!(queue.arguments["x-queue-type"], text("quorum"));
        assert_eq!(queue.arguments["x-delivery-limit"], Argument::Number(100));
        let bound: Vec<_> = worker_queue().bindings(&names());
        let binding = |pattern: &str| Declaration::binding("helixagent", "worker-queue", pattern);
        assert_eq!(bound, [binding("completions.#"), binding("tasks.*")]);
        assert_eq!(all[all.len() - 2..], bound, "messages come once everything else is there");
        assert!(
            matches!(&all[0], Declaration::Queue(queue) if queue.name == "helixagent.group.worker-queue")
        );
    }

    #[test]
    fn every_hop_of_a_retry_is_at_least_once_and_leads_back_to_the_group() {
        let tiers = [Duration::from_secs(1), Duration::from_secs(3_600)];
        let all = worker_queue().declarations(&names(), &tiers);
        for (tier, millis) in [("1s", 1_000), ("1h", 3_600_000)] {
            let place = format!("helixagent.retry.worker-queue.{tier}");
            let queue = queue(&all, &place);
            assert_eq!(queue.arguments["x-message-ttl"], Argument::Number(millis));
            let returned = text("helixagent.return.worker-queue");
            assert_eq!(queue.arguments["x-dead-letter-exchange"], returned);
            assert_eq!(queue.arguments["x-dead-letter-strategy"], text("at-least-once"));
            assert_eq!(queue.arguments["x-overflow"], text("reject-publish"));
            assert!(all.contains(&Declaration::binding(&place, &place, "")));
            assert!(all.contains(&Declaration::exchange(&place, ExchangeKind::Fanout, true)));
        }
        let back = Declaration::binding("helixagent.return.worker-queue", "worker-queue", "");
        assert!(all.contains(&back));
    }

    #[test]
    fn an_ordered_group_has_one_active_consumer_and_no_place_for_copies() {
        let group = GroupShape { ordered: true, ..worker_queue() };
        let all = group.declarations(&names(), &[Duration::from_secs(1)]);
        let single = &queue(&all, "worker-queue").arguments["x-single-active-consumer"];
        assert_eq!(*single, Argument::Flag(true));
        let other = |declaration: &&Declaration| matches!(declaration, Declaration::Exchange(_));
        assert_eq!(all.iter().find(other), None);
    }

    #[test]
    fn a_group_by_priority_is_a_classic_queue() {
        let group = GroupShape { priority: true, ..worker_queue() };
        let queue = group.queue(&names());
        assert_eq!(queue.arguments["x-max-priority"], Argument::Number(9));
        assert!(queue.durable && !queue.arguments.contains_key("x-queue-type"));
    }

    #[test]
    fn copies_on_every_node_are_asked_for_where_they_are_configured() {
        let names = Names::new("helixagent", "helixagent", true, Some(3));
        let all = worker_queue().declarations(&names, &[Duration::from_secs(1)]);
        for declaration in all {
            if let Declaration::Queue(queue) = declaration {
                let size = &queue.arguments["x-quorum-initial-group-size"];
                assert_eq!(*size, Argument::Number(3), "{}", queue.name);
            }
        }
    }
}
