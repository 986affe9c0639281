//! Prints the capability table of every backend as Markdown.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use messaging::driver::{Driver, Scope};
use messaging::memory::Memory;
use messaging::{Feature, Support};

fn main() {
    let memory = Memory::new();
    let backends: [&dyn Driver; 1] = [&memory];
    let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
    println!("| feature | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for feature in Feature::ALL {
        let cells = backends.iter().map(|backend| {
            let all = backend.capabilities(Scope::Broker);
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
        println!("| {feature} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
