//! `peers produce|consume BROKERS TOPIC MESSAGES`: the same work through rdkafka. Prints the seconds
//! and the processor seconds that it took.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, brokers, topic, messages] = args.as_slice() else {
        panic!("usage: peers produce|consume BROKERS TOPIC MESSAGES")
    };
    let messages = messages.parse().expect("MESSAGES is a number");
    let (took, cpu) = match what.as_str() {
        "produce" => produce(brokers, topic, messages),
        "consume" => consume(brokers, topic, messages),
        other => panic!("{other} is not known"),
    };
    println!("{} {}", took.as_secs_f64(), cpu.as_secs_f64());
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

fn produce(brokers: &str, topic: &str, messages: usize) -> (Duration, Duration) {
    let producer: BaseProducer =
        config(brokers).set("acks", "all").create().expect("a producer");
    // Connections and the topic's partitions are not what is measured.
    producer.client().fetch_metadata(Some(topic), Duration::from_secs(10)).expect("the topic");
    let body = [7_u8; 256];
    let (began, cpu) = (Instant::now(), cpu());
    for number in 0..messages {
        let id = format!("0192f0c4-7d7b-7000-8000-{number:012}");
        loop {
            // The headers that our messages have.
            let headers = OwnedHeaders::new_with_capacity(3)
                .insert(Header { key: "subject", value: Some("tasks") })
                .insert(Header { key: "message-id", value: Some(id.as_str()) })
                .insert(Header { key: "content-type", value: Some("application/octet-stream") });
            let record = BaseRecord::<(), _>::to(topic).payload(&body[..]).headers(headers);
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        if number % 1_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(60)).expect("every message is confirmed");
    (began.elapsed(), self::cpu() - cpu)
}

/// In a group, with one settlement for each message. The clock runs from the first message on.
fn consume(brokers: &str, topic: &str, messages: usize) -> (Duration, Duration) {
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "peer")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    let mut began = None;
    for _ in 0..messages {
        let message = loop {
            if let Some(message) = consumer.poll(Duration::from_secs(1)) {
                break message.expect("a message");
            }
        };
        began.get_or_insert_with(|| (Instant::now(), cpu()));
        std::hint::black_box(message.payload());
        consumer.store_offset_from_message(&message).expect("a settlement");
    }
    match consumer.commit_consumer_state(CommitMode::Sync) {
        // It had committed everything just now.
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => panic!("{error}"),
    }
    let (began, cpu) = began.expect("some message");
    (began.elapsed(), self::cpu() - cpu)
}

/// The processor time of this process, in steps of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}
