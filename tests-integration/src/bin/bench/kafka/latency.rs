//! One confirmed publish at a time.

use std::time::Duration;

use super::{Place, ROUNDS, bare, ours, ratio, start};
use crate::table::{Row, Target};

const COUNT: usize = 1_000;

#[expect(clippy::disallowed_methods, reason = "what is spawned is awaited at once")]
pub(super) fn rows() -> Vec<Row> {
    let (_node, port) = start();
    let [mut bare_medians, mut medians, mut late] = <[Vec<f64>; 3]>::default();
    for round in 0..ROUNDS {
        let place = Place { port, prefix: format!("latency{round}") };
        crate::runtime().block_on(async {
            bare::prepare(&place, false).await;
            let at = place.clone();
            let bare = tokio::spawn(async move { bare::one_by_one(&at, COUNT).await });
            bare_medians.push(at_share(bare.await.unwrap(), 50));
            let at = place.clone();
            let ours = tokio::spawn(async move { ours::one_by_one(&at, COUNT).await });
            let ours = ours.await.unwrap();
            medians.push(at_share(ours.clone(), 50));
            late.push(at_share(ours, 99) / 1e3);
        });
    }
    let of_bare = ratio(&medians, &bare_medians);
    vec![
        Row::new("one confirmed publish at a time, p50, rskafka", "µs", bare_medians),
        Row::new("one confirmed publish at a time, p50, ours", "µs", medians),
        Row::new("  ours of rskafka", "×", of_bare).target(Target::AtMost(1.2)),
        Row::new("one confirmed publish at a time, p99, ours", "ms", late)
            .target(Target::AtMost(10.0)),
    ]
}

/// In microseconds.
fn at_share(mut all: Vec<Duration>, percent: usize) -> f64 {
    all.sort_unstable();
    all.get(all.len() * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
