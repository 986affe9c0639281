//! Matching subjects, ordinary and adversarial.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use messaging_core::{Pattern, Subject};

fn pattern(criterion: &mut Criterion) {
    let words = ["a"; 99].join(".");
    for (name, pattern, subject) in [
        ("a literal", "tasks.completion", "tasks.completion"),
        ("a hash", "tasks.#", "tasks.debate.round.completed"),
        ("stars", "*.debate.*.completed", "tasks.debate.round.completed"),
        ("many hashes", &*["#.a"; 60].join("."), &*format!("{words}.b")),
    ] {
        let (pattern, subject): (Pattern, Subject) =
            (pattern.parse().unwrap(), subject.parse().unwrap());
        criterion.bench_function(name, |b| {
            b.iter(|| black_box(&pattern).matches(black_box(&subject)));
        });
    }
}

criterion_group!(benches, pattern);
criterion_main!(benches);
