//! `dlq`: the dead letters of a stream, listed or one of them shown.

use std::fmt::Write;
use std::process::ExitCode;

use futures::StreamExt;
use messaging::driver::{ReadSpec, Record};
use messaging::{Broker, DeadLetter, MessageId, StreamName, Timestamp};
use serde_json::json;

use crate::cli::{DlqArgs, DlqCommand};
use crate::exit::Failure;
use crate::output;
use crate::table::{Table, one_line};

pub(crate) async fn run(args: &DlqArgs) -> Result<ExitCode, Failure> {
    let broker = messaging::connect().await?;
    if broker.backend() == "memory" {
        return Err(Failure::usage(
            "the memory backend lives in one process, so its dead letters end with it; choose a \
             broker with MESSAGING_BACKEND",
        ));
    }
    tokio::select! {
        told = tell(&broker, &args.command, output::write) => told?,
        asked = messaging::stop_signal() => asked?,
    }
    broker.close().await?;
    Ok(ExitCode::SUCCESS)
}

async fn tell(
    broker: &Broker,
    command: &DlqCommand,
    print: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match command {
        DlqCommand::List { stream, limit, json } => {
            list(broker, stream, *limit, *json, print).await
        }
        DlqCommand::Show { stream, id } => show(broker, stream, id, print).await,
    }
}

/// The oldest dead letters, and whether there are more.
async fn list(
    broker: &Broker,
    stream: &StreamName,
    limit: usize,
    json: bool,
    mut print: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    broker.topology().require(stream.name())?;
    // One more than is shown tells whether there are more.
    let spec = ReadSpec::new(stream.to_dead_letters()).limit(limit.saturating_add(1));
    let mut pages = broker.reader()?.read(spec);
    let head = ["TIME", "ID", "SUBJECT", "GROUP", "ATTEMPTS", "ORIGIN", "REASON"];
    let mut table = Table::new(head).numbers([false, false, false, false, true, false, false]);
    let mut left = limit;
    let mut more = false;
    while let Some(page) = pages.next().await.transpose()? {
        more |= page.len() > left;
        for record in page.iter().take(left) {
            if json {
                print(as_json(record).as_bytes())?;
            } else {
                table.row(cells(record));
            }
        }
        left = left.saturating_sub(page.len());
    }
    if !json {
        if more {
            table.row(["…", "", "", "", "", "", "there are more; see --limit"].map(str::to_owned));
        }
        print(table.render().as_bytes())?;
    }
    Ok(())
}

/// Everything about the dead letters of this id: each group may have given the message up.
async fn show(
    broker: &Broker,
    stream: &StreamName,
    id: &MessageId,
    mut print: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    broker.topology().require(stream.name())?;
    let mut pages = broker.reader()?.read(ReadSpec::new(stream.to_dead_letters()));
    let mut found = false;
    while let Some(page) = pages.next().await.transpose()? {
        for record in page.iter().filter(|record| record.message.id == *id) {
            if found {
                print(b"\n")?;
            }
            found = true;
            print(&described(record))?;
        }
    }
    if found {
        return Ok(());
    }
    let id = one_line(&id.to_string());
    Err(Failure::unfinished(format!("stream {stream} keeps no dead letter with the id {id}")))
}

fn time(record: &Record) -> String {
    record.stored_at.map_or_else(|| "–".to_owned(), |at| Timestamp::from(at).to_string())
}

fn cells(record: &Record) -> [String; 7] {
    let letter = DeadLetter::of(&record.message);
    [
        time(record),
        record.message.id.to_string(),
        record.message.subject.to_string(),
        letter.group.to_owned(),
        letter.attempts.to_string(),
        letter.origin.to_owned(),
        letter.reason.to_owned(),
    ]
}

fn as_json(record: &Record) -> String {
    let letter = DeadLetter::of(&record.message);
    let line = json!({
        "id": record.message.id.to_string(),
        "subject": &*record.message.subject,
        "group": letter.group,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "origin": letter.origin,
        "time": record.stored_at.map(|at| Timestamp::from(at).to_string()),
        "position": record.position.to_string(),
    });
    format!("{line}\n")
}

/// A line for each thing, then the body as it is.
fn described(record: &Record) -> Vec<u8> {
    let message = &record.message;
    let letter = DeadLetter::of(message);
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        writeln!(text, "{name:<13} {}", one_line(value)).ok();
    };
    line("id", &message.id.to_string());
    line("subject", &message.subject);
    line("group", letter.group);
    line("reason", letter.reason);
    line("attempts", &letter.attempts.to_string());
    line("origin", letter.origin);
    line("time", &time(record));
    line("position", &record.position.to_string());
    line("content type", message.content_type.as_str());
    if let Some(key) = &message.key {
        line("key", &String::from_utf8_lossy(key));
    }
    for (name, value) in message.headers.application() {
        line("header", &format!("{name}: {}", String::from_utf8_lossy(value)));
    }
    text.push('\n');
    let mut piece = text.into_bytes();
    piece.extend_from_slice(&message.body);
    if !message.body.ends_with(b"\n") {
        piece.push(b'\n');
    }
    piece
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use messaging::{Bytes, Message, Subject, SubscribeSpec};
    use serde_json::Value;

    use super::*;
    use crate::cli::{Cli, Command};

    fn command(words: &[&str]) -> DlqCommand {
        let words = ["helixagent", "dlq"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Dlq(args) => args.command,
            other => panic!("{other:?}"),
        }
    }

    /// What is told about three tasks that were given up.
    async fn told(words: &[&str]) -> Result<String, Failure> {
        let broker = messaging::connect().await.unwrap();
        let spec = SubscribeSpec::group("g", ["tasks.#"]).unwrap();
        let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
        for id in ["t-0", "t-1", "t-2"] {
            let message = Message::new(Subject::from_static("tasks.x"), format!("body of {id}"))
                .with_id(id.parse().unwrap())
                .with_key("k")
                .with_header("tenant", "acme")
                .unwrap();
            broker.publish_message(message).await.unwrap();
            consumer.next().await.unwrap().unwrap().reject(format!("no model for\n{id}"));
        }
        let mut all = Vec::new();
        tell(&broker, &command(words), |piece| {
            all.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(String::from_utf8(all).unwrap())
    }

    #[tokio::test]
    async fn dead_letters_are_listed_with_all_that_is_known() {
        let text = told(&["list", "tasks"]).await.unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 4, "{text}");
        let words: Vec<&str> = rows[1].split_whitespace().skip(1).collect();
        let wanted = ["t-0", "tasks.x", "g", "1", "tasks", "memory", "0@0"];
        assert_eq!(words[..7], wanted);
        assert!(rows[1].ends_with("no model for\\nt-0"), "{text}");
    }

    #[tokio::test]
    async fn a_limit_shows_the_oldest_and_says_that_there_are_more() {
        let text = told(&["list", "tasks", "--limit", "2"]).await.unwrap();
        assert!(text.contains("t-1") && !text.contains("t-2"), "{text}");
        assert!(text.ends_with("there are more; see --limit\n"), "{text}");
        assert!(!told(&["list", "tasks", "--limit", "3"]).await.unwrap().contains("more"));
    }

    #[tokio::test]
    async fn json_is_an_object_a_line() {
        let text = told(&["list", "tasks", "--json", "--limit", "2"]).await.unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        let of = |key: &str| lines[1][key].clone();
        assert_eq!((of("id"), of("reason")), ("t-1".into(), "no model for\nt-1".into()));
        assert_eq!((of("group"), of("attempts")), ("g".into(), 1.into()));
        assert!(of("time").as_str().is_some_and(|time| time.ends_with('Z')), "{text}");
    }

    #[tokio::test]
    async fn one_is_shown_with_headers_and_body() {
        let text = told(&["show", "tasks", "t-1"]).await.unwrap();
        for line in ["id            t-1\n", "header        tenant: acme\n", "key           k\n"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.ends_with("\n\nbody of t-1\n"), "{text}");
    }

    #[tokio::test]
    async fn what_does_not_exist_is_named() {
        let failure = told(&["show", "tasks", "t-9"]).await.unwrap_err();
        assert!(failure.to_string().contains("no dead letter with the id t-9"), "{failure}");
        let failure = told(&["list", "nowhere"]).await.unwrap_err();
        assert!(failure.to_string().contains("tasks, events"), "{failure}");
    }
}
