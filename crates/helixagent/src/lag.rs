//! `lag`: what waits, what is in hand, and how old the oldest of it is.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use messaging::Broker;
use messaging::driver::Lag;
use serde_json::{Value, json};
use tokio::time::interval;

use crate::cli::LagArgs;
use crate::exit::Failure;
use crate::output;
use crate::table::Table;

/// Moves a terminal's cursor to the top and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

pub(crate) async fn run(args: &LagArgs) -> Result<ExitCode, Failure> {
    let broker = messaging::connect().await?;
    if broker.backend() == "memory" {
        return Err(Failure::usage(
            "the memory backend lives in one process, so nothing waits in this one; choose a \
             broker with MESSAGING_BACKEND",
        ));
    }
    tokio::select! {
        shown = show(&broker, args, output::write) => shown?,
        asked = messaging::stop_signal() => asked?,
    }
    broker.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// Shows it once, or each second without an end.
async fn show(
    broker: &Broker,
    args: &LagArgs,
    mut print: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let before = if args.watch && !args.json && io::stdout().is_terminal() { CLEAR } else { "" };
    let mut second = interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let mut rows = broker.lag(args.group.as_ref()).await?;
        rows.sort_by(|a, b| (&a.stream, &a.group).cmp(&(&b.stream, &b.group)));
        let text = if args.json { as_json(broker.backend(), &rows) } else { as_table(&rows) };
        print(format!("{before}{text}").as_bytes())?;
        if !args.watch {
            return Ok(());
        }
    }
}

fn as_table(rows: &[Lag]) -> String {
    let mut table = Table::new(["STREAM", "GROUP", "WAITING", "IN HAND", "OLDEST"])
        .numbers([false, false, true, true, true]);
    for row in rows {
        table.row([
            row.stream.to_string(),
            row.group.to_string(),
            row.waiting.to_string(),
            row.in_hand.to_string(),
            row.oldest.map_or_else(|| "–".to_owned(), age),
        ]);
    }
    table.render()
}

fn as_json(backend: &str, rows: &[Lag]) -> String {
    let row = |row: &Lag| {
        json!({
            "stream": row.stream.to_string(),
            "group": row.group.as_str(),
            "waiting": row.waiting,
            "in_hand": row.in_hand,
            "oldest_seconds": row.oldest.map(|age| age.as_millis() as f64 / 1_000.0),
        })
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    format!("{}\n", json!({ "backend": backend, "groups": rows }))
}

/// An age with its two largest units.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{:.1}s", age.as_millis() as f64 / 1_000.0),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use messaging::{Bytes, Message, Subject, SubscribeSpec};

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(more: &[&str]) -> LagArgs {
        let words = ["helixagent", "lag"].iter().chain(more);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Lag(args) => args,
            other => panic!("{other:?}"),
        }
    }

    /// Five messages of which the group `g` has two in hand.
    async fn shown(more: &[&str]) -> Result<Vec<String>, Failure> {
        let broker = messaging::connect().await.unwrap();
        let two = std::num::NonZeroU32::new(2).unwrap();
        let spec = SubscribeSpec::group("g", ["tasks.#"]).unwrap().prefetch(two);
        let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
        for _ in 0..5 {
            let message = Message::new(Subject::from_static("tasks.x"), "x");
            broker.publish_message(message).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let _held = [consumer.next().await, consumer.next().await];
        let mut all = Vec::new();
        let args = args(more);
        let shown = show(&broker, &args, |piece| {
            all.push(String::from_utf8(piece.to_vec()).unwrap());
            if all.len() == 3 { Err(Failure::unfinished("enough")) } else { Ok(()) }
        });
        shown.await.or_else(|failure| match failure.to_string().as_str() {
            "enough" => Ok(()),
            _ => Err(failure),
        })?;
        Ok(all)
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_for_each_stream_and_group_is_shown_as_a_table() {
        let wanted = "STREAM  GROUP  WAITING  IN HAND  OLDEST\n\
                      tasks   g            3        2    3.0s\n";
        assert_eq!(shown(&[]).await.unwrap(), [wanted]);
    }

    #[tokio::test(start_paused = true)]
    async fn json_says_the_same_on_one_line() {
        let line: Value =
            serde_json::from_str(&shown(&["--json", "--group", "g"]).await.unwrap()[0]).unwrap();
        let wanted = json!({ "stream": "tasks", "group": "g", "waiting": 3, "in_hand": 2,
            "oldest_seconds": 3.0 });
        assert_eq!((&line["backend"], &line["groups"]), (&json!("memory"), &json!([wanted])));
    }

    #[tokio::test(start_paused = true)]
    async fn watching_shows_it_again_each_second() {
        let all = shown(&["--watch"]).await.unwrap();
        assert_eq!(all.len(), 3);
        assert!(all[2].contains("5.0s"), "{}", all[2]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_group_is_named() {
        let failure = shown(&["--group", "nobody"]).await.unwrap_err();
        assert!(failure.to_string().contains("group nobody does not exist"), "{failure}");
    }

    #[test]
    fn ages_have_their_two_largest_units() {
        for (seconds, text) in
            [(0, "0.0s"), (59, "59s"), (61, "1m 1s"), (7_260, "2h 1m"), (180_000, "2d 2h")]
        {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
