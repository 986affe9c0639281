//! Messages that can be recognised: everything in them follows from who they are.

use messaging::{Message, Subject};
use serde::{Deserialize, Serialize};
use tests_integration::audit::Id;

use crate::dice::Dice;

/// Where messages go.
pub(crate) const SUBJECT: &str = "tasks.chaos";

/// Makes and recognises the messages of a run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Tells this run from others on the same broker.
    pub(crate) run: u64,
    pub(crate) seed: u64,
}

/// A body, as far as it says who the message is.
#[derive(Deserialize)]
struct Claims {
    run: String,
    producer: u32,
    sequence: u64,
    key: u32,
}

impl Identity {
    pub(crate) fn message(&self, id: Id, key: u32) -> messaging::Result<Message> {
        let body = self.body(id, key);
        let digest = digest(body.as_bytes());
        let subject: Subject = SUBJECT.parse()?;
        Message::new(subject, body)
            .with_id(self.message_id(id).parse()?)
            .with_key(key_text(key))
            .with_header("chaos-run", format!("{:016x}", self.run))?
            .with_header("chaos-id", format!("{}.{}", id.producer, id.sequence))?
            .with_header("chaos-digest", format!("{digest:016x}"))
    }

    /// Who a message is, and the digest of its body. What is not exactly as it was made has another
    /// digest; what was never made has an id that nobody has.
    pub(crate) fn read(&self, message: &Message) -> (Id, u64) {
        let found = digest(&message.body);
        let Some((id, key)) = self.claimed(&message.body) else {
            return (Id { producer: u32::MAX, sequence: found }, found);
        };
        let is_whole = self.message(id, key).is_ok_and(|made| {
            let headers = ["chaos-run", "chaos-id", "chaos-digest"];
            let same = |name: &&str| made.headers.get(name) == message.headers.get(name);
            made.body == message.body
                && made.id == message.id
                && made.key == message.key
                && made.subject == message.subject
                && headers.iter().all(same)
        });
        (id, if is_whole { found } else { !found })
    }

    /// The message that a body says it is, if it is of this run.
    pub(crate) fn claimed(&self, body: &[u8]) -> Option<(Id, u32)> {
        let Claims { run, producer, sequence, key } = serde_json::from_slice(body).ok()?;
        let is_ours = run == format!("{:016x}", self.run);
        is_ours.then_some((Id { producer, sequence }, key))
    }

    pub(crate) fn digest(&self, id: Id, key: u32) -> u64 {
        digest(self.body(id, key).as_bytes())
    }

    fn body(&self, id: Id, key: u32) -> String {
        let Id { producer, sequence } = id;
        let mut dice = Dice::of(&[self.seed, u64::from(producer), sequence]);
        // Most are small, some are not.
        let length = if dice.percent(5) { 4_096 } else { 32 + dice.below(480) as usize };
        let mut filler = String::with_capacity(length + 12);
        while filler.len() < length {
            let mut bits = dice.roll();
            for _ in 0..12 {
                filler.push(char::from(b'a' + (bits & 15) as u8));
                bits >>= 5;
            }
        }
        let run = self.run;
        format!(
            "{{\"run\":\"{run:016x}\",\"producer\":{producer},\"sequence\":{sequence},\
             \"key\":{key},\"filler\":\"{filler}\"}}"
        )
    }

    fn message_id(&self, id: Id) -> String {
        format!("{:016x}.{}.{}", self.run, id.producer, id.sequence)
    }
}

pub(crate) fn key_text(key: u32) -> String {
    format!("k{key}")
}

/// FNV-1a.
fn digest(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_recognised_and_every_change_is_seen() {
        let identity = Identity { run: 1, seed: 2 };
        let id = Id { producer: 3, sequence: 4 };
        let message = identity.message(id, 5).unwrap();
        let digest = identity.digest(id, 5);
        assert_eq!(identity.read(&message), (id, digest));
        for changed in [
            message.clone().with_key("other"),
            message.clone().with_header("chaos-id", "3.5").unwrap(),
            message.clone().with_id("other".parse().unwrap()),
        ] {
            assert_eq!(identity.read(&changed), (id, !digest));
        }
        let mut shortened = message.clone();
        shortened.body = shortened.body.slice(..10);
        assert_eq!(identity.read(&shortened).0.producer, u32::MAX);
        let other_run = Identity { run: 9, seed: 2 };
        assert_eq!(other_run.read(&message).0.producer, u32::MAX);
    }
}
