//! Messages per second, beside a bare channel with the same bodies and bounds.

use messaging::{Task, json};

use crate::table::{ROUNDS, Row, Target};
use crate::{bare, ours};

const MESSAGES: usize = 256 * 4 * 700;
const TASKS: usize = 150_000;

pub(crate) fn rows() -> Vec<Row> {
    let task = Task::new(
        "completion",
        json!({ "model": "helix-ensemble", "messages": [{ "role": "user", "content": "Say why." }] }),
    );
    let mut figures: [Vec<f64>; 7] = Default::default();
    for _ in 0..ROUNDS {
        let round = [
            bare::bytes(1, MESSAGES),
            ours::one_by_one(MESSAGES),
            ours::batches(1, MESSAGES),
            bare::bytes(4, MESSAGES),
            ours::batches(4, MESSAGES),
            bare::json(&task, TASKS),
            ours::json(&task, TASKS),
        ];
        figures.iter_mut().zip(round).for_each(|(all, figure)| all.push(figure));
    }
    let [bare, one_by_one, batches, bare_4, batches_4, bare_json, json] = figures;
    let ratio = |ours: &[f64], bare: &[f64]| ours.iter().zip(bare).map(|(a, b)| a / b).collect();
    vec![
        thousands("bare channel 1×1", &bare),
        thousands("bytes, one by one, 1×1", &one_by_one),
        Row::new("  of the bare channel", "×", ratio(&one_by_one, &bare))
            .target(Target::AtLeast(0.3)),
        thousands("bytes, batches, 1×1", &batches),
        Row::new("  of the bare channel", "×", ratio(&batches, &bare)).target(Target::AtLeast(0.6)),
        thousands("bare channel 4×4", &bare_4),
        thousands("bytes, batches, 4×4", &batches_4),
        Row::new("  of the bare channel", "×", ratio(&batches_4, &bare_4))
            .target(Target::AtLeast(0.8)),
        thousands("serde_json and bare channel", &bare_json),
        thousands("JSON tasks, one by one", &json),
        Row::new("  of serde_json and bare channel", "×", ratio(&json, &bare_json))
            .target(Target::AtLeast(0.6)),
    ]
}

fn thousands(name: &str, rates: &[f64]) -> Row {
    Row::new(name, "k msg/s", rates.iter().map(|rate| rate / 1_000.0).collect())
}
