//! `subscribe`: prints the bodies of messages, one a line.

use std::process::ExitCode;

use messaging::driver::Scope;
use messaging::{Broker, Bytes, Feature, Heard, Patterns, Received, SubscribeSpec};
use serde_json::{Value, json};

use crate::cli::SubscribeArgs;
use crate::exit::Failure;
use crate::output;

pub(crate) async fn run(args: &SubscribeArgs) -> Result<ExitCode, Failure> {
    let broker = messaging::connect().await?;
    if broker.backend() == "memory" {
        return Err(Failure::usage(
            "the memory backend lives in one process, so nobody else could publish to this \
             subscription; choose a broker with MESSAGING_BACKEND, or use work --from FILE",
        ));
    }
    let settles = broker.capabilities(Scope::Broker).has(Feature::Settlement);
    let print = async {
        if settles || args.group.is_some() {
            return print_all(&broker, args, output::write).await;
        }
        eprintln!("at most once: {} keeps nothing for who is not there", broker.backend());
        print_heard(&broker, args, output::write).await
    };
    tokio::select! {
        printed = print => printed?,
        asked = messaging::stop_signal() => asked?,
    }
    broker.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints until the count is reached. A message is acked once it is printed.
async fn print_all(
    broker: &Broker,
    args: &SubscribeArgs,
    mut print: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let spec = match &args.group {
        Some(group) => SubscribeSpec::group(group.as_str(), Patterns::new(&args.patterns)?.iter())?,
        None => SubscribeSpec::broadcast(&args.patterns)?,
    };
    let mut consumer = broker.subscribe::<Bytes>(spec).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(delivery) = consumer.next().await.transpose()? else { break };
        print(if args.json { described(&delivery) } else { line(&delivery) }.as_bytes())?;
        delivery.ack();
        left -= 1;
    }
    Ok(())
}

/// As [`print_all`] where the broker keeps nothing for its subscribers. Gaps are in the log.
async fn print_heard(
    broker: &Broker,
    args: &SubscribeArgs,
    mut print: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let spec = SubscribeSpec::broadcast(&args.patterns)?;
    let mut listener = broker.listen::<Bytes>(spec).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(heard) = listener.next().await.transpose()? else { break };
        let Heard::Message(message) = heard else { continue };
        print(if args.json { described(&message) } else { line(&message) }.as_bytes())?;
        left -= 1;
    }
    Ok(())
}

/// The body on one line: line breaks are escaped, as JSON has them only between tokens or so.
fn line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut line = match serde_json::from_slice::<Value>(body) {
        Ok(value) if text.contains('\n') => value.to_string(),
        _ => text.replace('\r', "\\r").replace('\n', "\\n"),
    };
    line.push('\n');
    line
}

fn described(received: &Received<Bytes>) -> String {
    let message = received.message();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: serde_json::Map<String, Value> =
        message.headers.iter().map(|(name, value)| (name.to_owned(), text(value).into())).collect();
    let body: Value =
        serde_json::from_slice(&message.body).unwrap_or_else(|_| text(&message.body).into());
    let mut line = json!({
        "subject": &*message.subject,
        "id": message.id.to_string(),
        "key": message.key.as_deref().map(text),
        "content_type": message.content_type.as_str(),
        "headers": headers,
        "attempt": received.attempt(),
        "body": body,
    })
    .to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use messaging::{Message, Subject};

    use super::*;
    use crate::cli::{Cli, Command};

    async fn printed(more: &[&str]) -> String {
        let words = ["helixagent", "subscribe", "tasks.#", "--group", "g"].iter().chain(more);
        let Command::Subscribe(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!()
        };
        let broker = messaging::connect().await.unwrap();
        for body in ["{\n \"a\": 1\n}", "two\nlines"] {
            let message = Message::new(Subject::from_static("tasks.x"), body);
            broker.publish_message(message).await.unwrap();
        }
        let mut all = String::new();
        print_all(&broker, &args, |piece| {
            all.push_str(std::str::from_utf8(piece).unwrap());
            Ok(())
        })
        .await
        .unwrap();
        all
    }

    #[tokio::test]
    async fn bodies_are_printed_one_a_line() {
        assert_eq!(printed(&["--count", "2"]).await, "{\"a\":1}\ntwo\\nlines\n");
    }

    #[tokio::test]
    async fn what_is_heard_is_printed_the_same_way() {
        let words = ["helixagent", "subscribe", "tasks.#", "--count", "1", "--json"];
        let Command::Subscribe(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!()
        };
        let broker = messaging::connect().await.unwrap();
        let mut line = Value::Null;
        let heard = print_heard(&broker, &args, |piece| {
            line = serde_json::from_slice(piece).unwrap();
            Ok(())
        });
        let publish = async {
            let message = Message::new(Subject::from_static("tasks.x"), "{\"a\":1}");
            broker.publish_message(message).await.unwrap();
        };
        let (heard, ()) = tokio::join!(heard, publish);
        heard.unwrap();
        assert_eq!((&line["subject"], &line["body"]["a"]), (&json!("tasks.x"), &json!(1)));
    }

    #[tokio::test]
    async fn json_tells_everything_about_a_message() {
        let line: Value =
            serde_json::from_str(&printed(&["--count", "1", "--json"]).await).unwrap();
        assert_eq!((&line["subject"], &line["body"]["a"]), (&json!("tasks.x"), &json!(1)));
        assert_eq!(line["attempt"], 1);
    }
}
