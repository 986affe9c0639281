use std::fmt;

use serde::{Deserialize, Serialize};

/// Everything that happened, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(pub Vec<Event>);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds of one monotonic clock.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// A message, through every repeated publish and every delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// Who published it.
    pub producer: u32,
    /// Its number among that producer's.
    pub sequence: u64,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// A publish is about to be called; again for each repetition.
    Publishing {
        /// The message.
        id: Id,
        /// Where it goes.
        subject: String,
        /// Its key.
        key: Option<String>,
        /// A digest of its body.
        digest: u64,
    },
    /// A publish has returned.
    Published {
        /// The message.
        id: Id,
        /// With what.
        outcome: Outcome,
    },
    /// A subscription exists from now on.
    Subscribed {
        /// Its name.
        subscription: String,
        /// What it receives.
        patterns: Vec<String>,
        /// Whether it is at most once.
        lossy: bool,
        /// Whether it keeps the order of each key.
        ordered: bool,
    },
    /// A subscription exists no more.
    Unsubscribed {
        /// Its name.
        subscription: String,
    },
    /// A message is about to be handled.
    Delivered {
        /// To whom.
        subscription: String,
        /// The message.
        id: Id,
        /// A digest of its body, as it arrived.
        digest: u64,
        /// Whose its lane was, where lanes have owners.
        #[serde(default)]
        tenure: Option<Tenure>,
    },
    /// A handler has ended.
    Handled {
        /// Whose.
        subscription: String,
        /// The message.
        id: Id,
        /// How.
        end: End,
        /// That of its delivery.
        #[serde(default)]
        tenure: Option<Tenure>,
    },
    /// An ack is about to be called.
    Acking {
        /// Whose.
        subscription: String,
        /// The message.
        id: Id,
    },
    /// A message was given back: retried, abandoned or released.
    GivenBack {
        /// By whom.
        subscription: String,
        /// The message.
        id: Id,
    },
    /// A message has ended without being handled.
    Ended {
        /// For whom.
        subscription: String,
        /// The message.
        id: Id,
        /// How.
        fate: Fate,
    },
    /// An at-most-once subscription was told that it missed messages.
    Gap {
        /// Which one.
        subscription: String,
        /// How many, where it was said.
        missed: Option<u64>,
    },
    /// A fault begins.
    FaultBegan {
        /// Its name.
        fault: String,
    },
    /// A fault has ended: the broker answers its own protocol again.
    FaultEnded {
        /// Its name.
        fault: String,
    },
    /// From now on everything that is still on its way has to arrive.
    Draining,
    /// It has arrived.
    Drained,
    /// What a process takes.
    Sampled {
        /// Its name, another one after a restart.
        process: String,
        /// Its resident memory in bytes.
        resident: u64,
        /// Its open file descriptors.
        descriptors: u64,
        /// How many lines it has logged so far.
        log_lines: u64,
    },
    /// A process has logged a line.
    Logged {
        /// Its name.
        process: String,
        /// What.
        line: String,
    },
}

/// Somebody's ownership of a lane, as that owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tenure {
    /// The lane.
    pub lane: u32,
    /// Grows from one owner to the next.
    pub epoch: u32,
    /// The owner: a process, another one after a restart.
    pub owner: u32,
}

/// What a publish returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is kept.
    Ok,
    /// It is definitely not.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// How a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It succeeded.
    Ok,
    /// It failed, panicked or took too long.
    Failed,
}

/// How a message ended that was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is a dead letter.
    Parked,
    /// It was kept no longer, as was declared.
    Expired,
    /// It was dropped, as was declared.
    Dropped,
}

impl History {
    /// Writes it as JSON, an event a line.
    ///
    /// # Errors
    /// None in practice: every event has a JSON form.
    pub fn to_json_lines(&self) -> serde_json::Result<String> {
        let mut lines = String::new();
        for event in &self.0 {
            lines.push_str(&serde_json::to_string(event)?);
            lines.push('\n');
        }
        Ok(lines)
    }

    /// Reads it from JSON, an event a line.
    ///
    /// # Errors
    /// The first line that is no event.
    pub fn from_json_lines(lines: &str) -> serde_json::Result<Self> {
        lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().map(Self)
    }
}

impl What {
    /// The message it is about.
    #[must_use]
    pub const fn id(&self) -> Option<Id> {
        match self {
            Self::Publishing { id, .. }
            | Self::Published { id, .. }
            | Self::Delivered { id, .. }
            | Self::Handled { id, .. }
            | Self::Acking { id, .. }
            | Self::GivenBack { id, .. }
            | Self::Ended { id, .. } => Some(*id),
            Self::Subscribed { .. }
            | Self::Unsubscribed { .. }
            | Self::Gap { .. }
            | Self::FaultBegan { .. }
            | Self::FaultEnded { .. }
            | Self::Draining
            | Self::Drained
            | Self::Sampled { .. }
            | Self::Logged { .. } => None,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}·{}", self.producer, self.sequence)
    }
}
