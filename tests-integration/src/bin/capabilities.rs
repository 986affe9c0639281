//! Prints what every backend can do, and what it promises, as two Markdown tables.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use messaging::driver::{Driver, Scope};
use messaging::kafka::Kafka;
use messaging::memory::Memory;
use messaging::rabbitmq::Rabbit;
use messaging::redis::config::Format;
use messaging::redis::{PubSub, Streams};
use messaging::{Capabilities, Feature, Support};

/// The promises of each backend, in the order of the capability table. The fault runner and the
/// conformance suite hold them to it.
const GUARANTEES: [(&str, [&str; 5]); 6] = [
    (
        "a confirmed publish reaches every group at least once",
        [
            "while the process lives",
            "no: nothing is kept",
            "yes; with `appendfsync always` across crashes of the server",
            "yes, across crashes of servers: quorum queues, confirmed by a majority",
            "yes; with three copies, two of them in step, across crashes of servers",
        ],
    ),
    (
        "what is lost is seen",
        [
            "yes",
            "yes: a gap for every lost connection and every overrun",
            "yes: a gap for what was trimmed, unknown for what was not answered",
            "yes: unroutable, no receiver or unknown at the publisher; a gap for a deleted queue",
            "yes: a gap for offsets that are kept no longer, unknown for what was not answered",
        ],
    ),
    ("acked only after its handler succeeded", ["yes", "nothing is acked", "yes", "yes", "yes"]),
    (
        "duplicates",
        [
            "none",
            "none",
            "after faults only: what was in hand, and repeated unknown publishes",
            "after faults only: what was in hand, unknown publishes and copies in flight",
            "after faults only: what was in hand or not committed yet, unknown publishes and copies",
        ],
    ),
    (
        "order per key",
        [
            "in ordered groups, through retries",
            "of one connection",
            "in ordered groups, through retries and changes of owner",
            "in ordered groups, of one consumer at a time, through retries",
            "in ordered groups, through retries and changes of owner",
        ],
    ),
    (
        "a failover of the server",
        [
            "–",
            "a gap",
            "may lose what was confirmed; with `REDIS_WAIT_REPLICAS` that reads as unknown",
            "loses nothing that was confirmed while a replica in step is left",
        ],
    ),
];

fn main() {
    let backends: [(&str, Capabilities); 5] = [
        ("memory", Memory::new().capabilities(Scope::Broker)),
        ("redis", PubSub::capabilities_with(Format::Auto)),
        ("redis-streams", Streams::CAPABILITIES),
        ("rabbitmq", Rabbit::CAPABILITIES),
        ("kafka", Kafka::CAPABILITIES),
    ];
    let names = backends.each_ref().map(|(name, _)| *name);
    header("feature", &names);
    for feature in Feature::ALL {
        let cells = backends.each_ref().map(|(_, all)| {
            let support = match all.support(feature) {
                Support::Native => "native",
                Support::Emulated => "emulated",
                _ => "–",
            };
            match all.note(feature) {
                "" => support.to_owned(),
                note => format!("{support}: {note}"),
            }
        });
        println!("| {feature} | {} |", cells.join(" | "));
    }
    println!();
    header("promise", &names);
    for (promise, cells) in GUARANTEES {
        println!("| {promise} | {} |", cells.join(" | "));
    }
}

fn header(first: &str, names: &[&str]) {
    println!("| {first} | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
}
