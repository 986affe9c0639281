//! What happens beside the data path, told to whoever asked: a log, metrics, a test.

use std::fmt;
use std::fmt::Debug;

use crate::capability::Feature;
use crate::driver::{Expired, Gap, Lanes, Parked};
use crate::id::MessageId;
use crate::subject::Subject;

/// Is told about everything that would otherwise pass in silence.
///
/// It is called where things happen, so it must return quickly and must not block.
pub trait Observer: Debug + Send + Sync {
    /// Something happened.
    fn notice(&self, notice: &Notice);
}

/// Something that happened beside the data path. Its text is one line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A handle runs without a feature, because its specification waives it.
    Waived(Feature),
    /// A subscription will not see some messages.
    Gap(Gap),
    /// A subscription owns these lanes from now on.
    Assigned(Lanes),
    /// A subscription hands these lanes over.
    Revoked(Lanes),
    /// A subscription has lost these lanes.
    Lost(Lanes),
    /// A subscription's handlers took longer than the broker allows, and were cancelled.
    Expired(Expired),
    /// The driver put a message aside that it could not read.
    Parked(Parked),
    /// A connection was lost and is back.
    Reconnected,
    /// A message was dead-lettered before any handler saw it.
    Refused {
        /// Its subject.
        subject: Subject,
        /// Its id.
        id: MessageId,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes = |f: &mut fmt::Formatter<'_>, what: &str, lanes: &Lanes| {
            write!(f, "lanes {what}:")?;
            lanes.iter().try_for_each(|lane| write!(f, " {lane}"))
        };
        match self {
            Self::Waived(feature) => write!(f, "running without {feature}"),
            Self::Gap(Gap { missed: Some(missed), reason, .. }) => {
                write!(f, "{missed} messages missed: {reason}")
            }
            Self::Gap(gap) => write!(f, "messages missed: {}", gap.reason),
            Self::Assigned(all) => lanes(f, "assigned", all),
            Self::Revoked(all) => lanes(f, "revoked", all),
            Self::Lost(all) => lanes(f, "lost", all),
            Self::Expired(Expired { tokens, reason }) => {
                write!(f, "{} messages taken back from their handlers: {reason}", tokens.len())
            }
            Self::Parked(parked) => write!(f, "message put aside: {}", parked.reason),
            Self::Reconnected => f.write_str("connection is back"),
            Self::Refused { subject, id, reason } => {
                write!(f, "message {id} to {subject} dead-lettered: {reason}")
            }
        }
    }
}
