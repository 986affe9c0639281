//! `publish`: sends a message, or a message a line.

use std::io::Read;
use std::process::ExitCode;

use messaging::schema::parse_json;
use messaging::{Broker, Bytes, ContentType, Message, Publisher, SendSpec};

use crate::cli::PublishArgs;
use crate::exit::Failure;
use crate::lines::{LONGEST, Source};
use crate::output;

pub(crate) async fn run(args: &PublishArgs) -> Result<ExitCode, Failure> {
    let broker = messaging::connect().await?;
    if broker.backend() == "memory" {
        return Err(Failure::usage(
            "the memory backend lives in one process, so what is published here would end with \
             it; choose a broker with MESSAGING_BACKEND, or use work --from FILE",
        ));
    }
    publish(&broker, args).await?;
    broker.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// Publishes what the arguments name and prints where each message is.
async fn publish(broker: &Broker, args: &PublishArgs) -> Result<(), Failure> {
    let source = Source::new(args.file.clone());
    let publisher = broker.publisher(SendSpec::subject(args.subject.clone())?).await?;
    if !args.lines {
        let mut body = Vec::new();
        // One byte over the limit is enough to be refused with the limit.
        let read = source.open()?.take(LONGEST as u64 + 1).read_to_end(&mut body);
        read.map_err(|error| Failure::usage(format!("{}: {error}", source.name())))?;
        return send(&publisher, args, body.into()).await;
    }
    let mut lines = source.read()?;
    while let Some(line) = lines.recv().await {
        let place = format!("{}:{}", source.name(), line.number);
        let named = |why: &dyn std::fmt::Display| Failure::usage(format!("{place}: {why}"));
        let body = line.bytes.map_err(|why| named(&why))?;
        send(&publisher, args, body).await?;
    }
    Ok(())
}

async fn send(
    publisher: &Publisher<Bytes>,
    args: &PublishArgs,
    body: Bytes,
) -> Result<(), Failure> {
    let message = message(args, body)?;
    let id = message.id.clone();
    let receipt = publisher.publish_message(message).await?;
    output::write(format!("{} {id}: {receipt}\n", args.subject).as_bytes())
}

/// A body of one JSON value is JSON without its final newline; any other is bytes as they are.
fn message(args: &PublishArgs, body: Bytes) -> Result<Message, Failure> {
    let trimmed = body.strip_suffix(b"\n").map_or(body.clone(), |json| body.slice_ref(json));
    let is_json = parse_json(&trimmed).is_ok();
    let (body, found) =
        if is_json { (trimmed, ContentType::Json) } else { (body, ContentType::OctetStream) };
    let content_type = args.content_type.as_deref().map_or(found, ContentType::from);
    let mut message = Message::new(args.subject.clone(), body).with_content_type(content_type);
    if let Some(key) = &args.key {
        message = message.with_key(key.clone());
    }
    for (name, value) in &args.headers {
        message = message.with_header(name, value.clone())?;
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(more: &[&str]) -> PublishArgs {
        let words = ["helixagent", "publish", "tasks.completion"].iter().chain(more);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Publish(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_json_value_is_json_without_its_final_newline() {
        let sent =
            message(&args(&["--key", "k", "--header", "a=b=c"]), "{\"a\": 1}\n".into()).unwrap();
        assert_eq!((&sent.body[..], &sent.content_type), (&b"{\"a\": 1}"[..], &ContentType::Json));
        assert_eq!(sent.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(sent.headers.text("a"), Some("b=c"));
    }

    #[test]
    fn anything_else_is_bytes_and_the_type_can_be_set() {
        let sent = message(&args(&[]), "two words\n".into()).unwrap();
        assert_eq!(
            (&sent.body[..], &sent.content_type),
            (&b"two words\n"[..], &ContentType::OctetStream)
        );
        let sent = message(&args(&["--content-type", "text/plain"]), "x".into()).unwrap();
        assert_eq!(sent.content_type.as_str(), "text/plain");
    }

    #[tokio::test]
    async fn each_line_is_a_message_that_a_subscriber_gets() {
        let broker = messaging::connect().await.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"a\":1}\nplain\n").unwrap();
        let path = file.path().to_str().unwrap();
        publish(&broker, &args(&[path, "--lines"])).await.unwrap();
        let spec = messaging::SubscribeSpec::group("g", ["tasks.#"]).unwrap();
        let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
        for expected in ["{\"a\":1}", "plain"] {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(&delivery[..], expected.as_bytes());
            delivery.ack();
        }
    }
}
