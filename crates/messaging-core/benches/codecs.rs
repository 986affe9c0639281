//! Writing and reading a task, as JSON and as protobuf.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use messaging_core::{Task, json};

fn codecs(criterion: &mut Criterion) {
    let task = Task::new(
        "completion",
        json!({ "model": "helix-ensemble", "messages": [{ "role": "user", "content": "Say why." }] }),
    );
    let (json, protobuf) = (task.to_json().unwrap(), task.to_protobuf().unwrap());
    criterion.bench_function("task to JSON", |b| b.iter(|| black_box(&task).to_json().unwrap()));
    criterion.bench_function("task from JSON", |b| {
        b.iter(|| Task::from_json(black_box(&json)).unwrap());
    });
    criterion.bench_function("task to protobuf", |b| {
        b.iter(|| black_box(&task).to_protobuf().unwrap());
    });
    criterion.bench_function("task from protobuf", |b| {
        b.iter(|| Task::from_protobuf(black_box(&protobuf)).unwrap());
    });
}

criterion_group!(benches, codecs);
criterion_main!(benches);
