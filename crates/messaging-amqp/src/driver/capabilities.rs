//! What RabbitMQ can do.

use messaging_core::{Capabilities, Feature, Support};

/// As a whole, with the management API.
pub(super) const ALL: Capabilities = Capabilities::all()
    .with(
        Feature::Settlement,
        Support::Native,
        "what is given back goes to the end of its queue, in ordered groups to its place",
    )
    .with(Feature::Broadcast, Support::Native, "a queue that ends with its connection: then a gap")
    .with(Feature::Listen, Support::Native, "a queue that ends with its connection: then a gap")
    .with(
        Feature::Ordered,
        Support::Native,
        "one active consumer; retries in place, their attempts forgotten when the member ends",
    )
    .with(Feature::ParallelLanes, Support::Unsupported, "a group is one queue")
    .with(
        Feature::Priority,
        Support::Unsupported,
        "a quorum queue has none; a group of the topology with priority = true is a classic queue",
    )
    .with(Feature::DelayedRetry, Support::Emulated, "a quorum queue with a time limit per tier")
    .with(
        Feature::DeadLetters,
        Support::Emulated,
        "a queue per stream, which its groups share; copied before the ack",
    )
    .with(Feature::ConfirmedSettlement, Support::Unsupported, "AMQP has no answer to an ack")
    .with(Feature::StartEarliest, Support::Unsupported, "a queue begins when it is created")
    .with(Feature::StartPosition, Support::Unsupported, "a queue has no positions")
    .with(Feature::StartTime, Support::Unsupported, "a queue begins when it is created")
    .with(Feature::Lag, Support::Emulated, "the management API counts")
    .with(Feature::Provision, Support::Emulated, "the management API lists what there is")
    .with(Feature::ReadRange, Support::Unsupported, "a queue is read by taking from it")
    .with(Feature::Positions, Support::Unsupported, "a queue has no positions");

/// Of one scope.
pub(super) const fn of(priority: bool, management: bool) -> Capabilities {
    let mut all = ALL;
    if priority {
        let note = "a classic queue on one node; a crash counts once, and then it is tried alone";
        all = all.with(Feature::Priority, Support::Native, note);
    }
    if !management {
        let note = "it needs the management API (RABBITMQ_MANAGEMENT_URL)";
        all = all.with(Feature::Lag, Support::Unsupported, note);
    }
    all
}
