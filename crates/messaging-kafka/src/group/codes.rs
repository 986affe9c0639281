//! What each error code of the coordinator means to a member.

use kafka_protocol::error::ResponseError as Code;
use messaging_core::{Error, ErrorKind};

use crate::error::denied;

/// Which request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Find,
    Join,
    Sync,
    Beat,
    Leave,
    Commit,
}

/// What an error means.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// The coordinator can't serve this now: the same again, after a while.
    Later,
    /// The coordinator is elsewhere, or may be: it is looked for again, after a while.
    Moved,
    /// The group rebalances: join again and keep everything.
    Rebalance,
    /// We missed a generation: everything is lost, join again as the same member (G2, G3).
    Missed,
    /// The group does not know us: everything is lost, join again, at last as a new member.
    Forgotten,
    /// It will not get better by itself.
    Fatal(Error),
}

/// What `code` means as the answer to a request of a member of `group`.
pub(crate) fn meaning(code: i16, asked: Asked, group: &str) -> Meaning {
    let fatal =
        |kind, text: &str| Meaning::Fatal(Error::new(kind, format!("group {group}: {text}")));
    if denied(code, group).is_some() {
        return fatal(ErrorKind::Denied, "these credentials may not read as its member");
    }
    let Some(code) = Code::try_from_code(code) else { return Meaning::Moved };
    match code {
        Code::CoordinatorLoadInProgress | Code::ThrottlingQuotaExceeded => Meaning::Later,
        Code::RebalanceInProgress => Meaning::Rebalance,
        Code::IllegalGeneration => Meaning::Missed,
        Code::UnknownMemberId | Code::GroupIdNotFound => Meaning::Forgotten,
        Code::FencedInstanceId | Code::UnreleasedInstanceId => {
            fatal(ErrorKind::Unavailable, "another process uses the same group instance id")
        }
        Code::InconsistentGroupProtocol => Meaning::Fatal(foreign(group)),
        Code::InvalidSessionTimeout => {
            let text = "the broker refuses the session timeout (accepted: between its \
                        group.min.session.timeout.ms and group.max.session.timeout.ms)";
            fatal(ErrorKind::InvalidConfig, text)
        }
        Code::InvalidGroupId => fatal(ErrorKind::InvalidName, "the broker refuses its name"),
        Code::GroupMaxSizeReached => {
            fatal(ErrorKind::Unavailable, "it has as many members as the broker admits")
        }
        Code::UnsupportedVersion => {
            fatal(ErrorKind::Unavailable, "the broker does not offer the requests of members")
        }
        Code::InvalidRequest if matches!(asked, Asked::Join | Asked::Sync) => {
            fatal(ErrorKind::Other, "the broker refuses the request of a member as invalid")
        }
        // Everything else passes, or is a code of a later broker: retried at a bounded pace.
        _ => Meaning::Moved,
    }
}

fn foreign(group: &str) -> Error {
    let kind = ErrorKind::GroupConflict {
        group: group.to_owned(),
        theirs: None,
        ours: super::PROTOCOL.to_owned(),
    };
    let text = format!(
        "group {group} has members that do not offer the assignment protocol {}: another client \
         uses the same name",
        super::PROTOCOL
    );
    Error::new(kind, text)
}
