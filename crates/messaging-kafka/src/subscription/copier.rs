//! Copies for retries and dead letters, each written before its original counts as settled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use messaging_core::driver::Backoff;
use messaging_core::duration::format_duration;
use messaging_core::headers::ours;
use messaging_core::{Error, Message, Result};
use tokio::time::{Instant, sleep};

use super::desk::{Copying, Purpose};
use super::member::Member;
use super::place::Content;
use super::reading;
use crate::admin::retry_topic;
use crate::error::{from_code, unexpected};
use crate::write::records;

/// The most copies of one request, and about the most bytes, for what a topic of ours takes.
const BATCH: usize = 256;
const BYTES: usize = 1 << 20;
/// About the most bytes that a record has beside its message.
const BESIDE: usize = 1_024;
const TOO_LARGE: [i16; 2] = [10, 18];

/// Writes copies until nothing of the subscription is left. A copy whose fate is not known is written
/// again under the same id.
pub(super) async fn run(member: Arc<Member>) {
    let mut waiting: Vec<Copying> = Vec::new();
    let mut backoff = Backoff::default();
    // One line in the log stands for all tries until everything is written.
    let mut waits = false;
    loop {
        waiting.extend(member.desk.take_copies());
        if waiting.is_empty() {
            tokio::select! {
                () = member.desk.copies.notified() => {}
                () = member.ended.cancelled() => return,
                () = member.shared.dead.cancelled() => return,
            }
            continue;
        }
        let mut targets: BTreeMap<String, Vec<Copying>> = BTreeMap::new();
        for copy in waiting.drain(..) {
            if copy.is_dead_letter_of_dead_letters() {
                // It stays where it is: it is settled, and kept.
                member.desk.copied(copy);
                continue;
            }
            match target(&member, &copy) {
                Ok(topic) => targets.entry(topic).or_default().push(copy),
                Err(error) => member.desk.not_copied(copy, error),
            }
        }
        for (topic, copies) in targets {
            let mut parts = in_parts(copies);
            while let Some(mut part) = parts.pop_front() {
                match write(&member, &topic, &part).await {
                    Ok(()) => part.into_iter().for_each(|copy| member.desk.copied(copy)),
                    // One of them is, or all are together.
                    Err(Failed::Refused(_)) if part.len() > 1 => {
                        let rest = part.split_off(part.len() / 2);
                        parts.push_front(rest);
                        parts.push_front(part);
                    }
                    Err(Failed::Refused(error)) => {
                        if let Some(copy) = part.pop() {
                            member.desk.not_copied(copy, error);
                        }
                    }
                    Err(Failed::Unknown(error)) => {
                        if !waits {
                            tracing::warn!(%topic, %error, "retries and dead letters wait");
                        }
                        waits = true;
                        waiting.append(&mut part);
                    }
                }
            }
        }
        if waiting.is_empty() {
            waits = false;
            backoff.reset();
            continue;
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = member.ended.cancelled() => return,
            () = member.shared.dead.cancelled() => return,
        }
        // A newer view may know who leads the topic.
        drop(member.shared.cluster.refresh().await);
    }
}

/// What is written at once.
fn in_parts(copies: Vec<Copying>) -> VecDeque<Vec<Copying>> {
    let mut parts: VecDeque<Vec<Copying>> = VecDeque::new();
    let mut bytes = 0;
    for copy in copies {
        let more = copy.original.message.bytes() + BESIDE;
        match parts.back_mut().filter(|part| part.len() < BATCH && bytes + more <= BYTES) {
            Some(part) => part.push(copy),
            None => {
                bytes = 0;
                parts.push_back(vec![copy]);
            }
        }
        bytes += more;
    }
    parts
}

/// Where a copy goes.
fn target(member: &Member, copy: &Copying) -> Result<String> {
    let shared = &member.shared;
    match &copy.purpose {
        Purpose::Retry { after, .. } => {
            let tier = shared.topology().tier_for(*after)?;
            let Some(group) = &member.source.name else {
                let text = "a retry by way of a topic needs a group";
                return Err(Error::new(messaging_core::ErrorKind::Other, text));
            };
            Ok(retry_topic(shared, group, &format_duration(tier)))
        }
        Purpose::DeadLetter { .. } => {
            let stream = copy.original.message.subject.stream();
            Ok(shared.topic(&messaging_core::StreamName::dead_letters(stream)?))
        }
    }
}

/// The copy itself.
fn content(member: &Member, copy: &Copying) -> Message {
    let mut message = Message::clone(&copy.original.message);
    let place = &copy.place.partition;
    let origin = copy.original.origin.unwrap_or((place.number, copy.original.offset));
    match &copy.purpose {
        Purpose::Retry { after, attempt } => {
            // Of one tier all wait equally long, so they are due in the order of their copies.
            let tier = member.shared.topology().tier_for(*after).unwrap_or(*after);
            let due = SystemTime::now() + tier;
            reading::stamp(&mut message, *attempt, due, origin);
        }
        Purpose::DeadLetter { reason } => {
            let group = member.source.name.as_ref().map_or("broadcast", |name| name.as_str());
            let stream = message.subject.stream().to_owned();
            let headers = &mut message.headers;
            headers.stamp(ours::DEAD_LETTER_GROUP, group.to_owned());
            headers.stamp(ours::DEAD_LETTER_REASON, reason.clone());
            let made = copy.original.attempt.min(member.source.max_attempts);
            headers.stamp(ours::DEAD_LETTER_ATTEMPTS, made.to_string());
            let origin = format!("{stream} {} {}@{}", crate::NAME, origin.0, origin.1);
            headers.stamp(ours::DEAD_LETTER_ORIGIN, origin);
        }
    }
    message
}

enum Failed {
    /// Nothing was written, nor will it be.
    Refused(Error),
    /// It may have been written, or can't be now; it is written again.
    Unknown(Error),
}

async fn write(member: &Member, topic: &str, copies: &[Copying]) -> Result<(), Failed> {
    let messages: Vec<Message> = copies.iter().map(|copy| content(member, copy)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let compression = member.shared.config.compression;
    let batch = records::batch(messages.iter(), compression, now).map_err(Failed::Refused)?;
    match produce(member, topic, batch).await {
        Ok(0) => Ok(()),
        Ok(code) if TOO_LARGE.contains(&code) => Err(Failed::Refused(from_code(code, topic))),
        Ok(code) => Err(Failed::Unknown(from_code(code, topic))),
        Err(error) => Err(Failed::Unknown(error)),
    }
}

async fn produce(member: &Member, topic: &str, batch: bytes::Bytes) -> Result<i16> {
    let cluster = &member.shared.cluster;
    let leader = cluster.leader(topic, 0).await?;
    let connection = cluster.broker(leader).await?;
    let deadline = cluster.deadline();
    let patience = deadline.saturating_duration_since(Instant::now()).mul_f32(0.9);
    let one = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![one]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(i32::try_from(patience.as_millis()).unwrap_or(i32::MAX).max(1))
        .with_topic_data(vec![topic]);
    let answer = connection.call(&request, deadline).await?;
    let mut answers = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    let code = answers.next().map(|answer| answer.error_code);
    code.ok_or_else(|| unexpected(connection.address(), "Produce"))
}

impl Copying {
    fn is_dead_letter_of_dead_letters(&self) -> bool {
        let dead = matches!(&self.place.content, Content::Stream(name) if name.is_dead_letters());
        dead && matches!(self.purpose, Purpose::DeadLetter { .. })
    }
}
