//! What the server and the client library say, as errors of the layer.

use std::fmt::{self, Write};

use messaging_core::{Error, ErrorKind, Result};

/// The server closed a channel or connection, and said why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// AMQP's reply code.
    pub(crate) code: u16,
    /// The server's words, such as `NOT_FOUND - no exchange 'x' in vhost '/'`.
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) const ACCESS_REFUSED: u16 = 403;
    pub(crate) const NOT_FOUND: u16 = 404;
    pub(crate) const PRECONDITION_FAILED: u16 = 406;
    pub(crate) const NOT_ALLOWED: u16 = 530;
    pub(crate) const NOT_IMPLEMENTED: u16 = 540;

    fn kind(&self) -> ErrorKind {
        match self.code {
            Self::ACCESS_REFUSED => ErrorKind::Denied,
            Self::NOT_ALLOWED if self.text.contains("not found") => ErrorKind::NotFound,
            Self::NOT_ALLOWED => ErrorKind::Denied,
            Self::NOT_FOUND => ErrorKind::NotFound,
            Self::PRECONDITION_FAILED | Self::NOT_IMPLEMENTED => ErrorKind::InvalidConfig,
            // 320, 405, 506, 541: the same may succeed later, or at another node.
            _ => ErrorKind::Unavailable,
        }
    }

    pub(crate) fn at(&self, what: &str) -> Error {
        Error::new(self.kind(), format!("{what}: the server answers {self}"))
    }

    /// What the server does not let us publish to, where it names that: an exchange, and the routing
    /// key where it is about that one.
    pub(crate) fn denied(&self) -> Option<(Option<&str>, Option<&str>)> {
        let named = |what| self.text.split_once(what)?.1.split_once('\'').map(|(name, _)| name);
        let is_denied = self.code == Self::ACCESS_REFUSED;
        is_denied.then(|| (named("exchange '"), named("topic '")))
    }

    /// The size and the limit of a body that the server did not take.
    pub(crate) fn too_large(&self) -> Option<(usize, usize)> {
        let text = self.text.split_once("message size ")?.1;
        let (size, rest) = text.split_once(' ')?;
        let limit = rest.split_once("max size ")?.1;
        let digits = limit.bytes().take_while(u8::is_ascii_digit).count();
        Some((size.parse().ok()?, limit.get(..digits)?.parse().ok()?))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code)?;
        // The server quotes names; what else could disturb a terminal or a log is escaped.
        self.text.chars().try_for_each(|letter| match letter {
            '\'' | '"' => f.write_char(letter),
            _ => letter.escape_debug().fmt(f),
        })
    }
}

/// How a request to the server ended without an answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server closed the channel instead.
    Refused(Refusal),
    /// The channel or its connection ended.
    Lost(String),
    /// There was no answer by the deadline.
    Late,
    /// Nothing was sent.
    Invalid(Error),
}

impl Fault {
    /// The error of the layer; `what` names the request and its object.
    pub(crate) fn at(self, what: &str) -> Error {
        match self {
            Self::Refused(refusal) => refusal.at(what),
            Self::Lost(why) => Error::new(ErrorKind::Unavailable, format!("{what}: {why}")),
            Self::Late => {
                let text = format!("{what}: the server did not answer in time");
                Error::new(ErrorKind::Timeout, text)
            }
            Self::Invalid(error) => error,
        }
    }

    /// The server's reply code, where it gave one.
    pub(crate) const fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Lost(_) | Self::Late | Self::Invalid(_) => None,
        }
    }
}

/// Checks a name that AMQP keeps in a short string: the client library panics above 255 bytes.
pub(crate) fn check_short(what: &str, text: &str) -> Result<()> {
    if text.len() > 255 {
        let (reason, accepted) = ("it is too long", "at most 255 bytes");
        return Err(Error::invalid(ErrorKind::InvalidName, what, text, reason, accepted));
    }
    Ok(())
}

pub(crate) fn stale() -> Error {
    Error::new(ErrorKind::Stale, "the delivery is no longer ours")
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, "the connection was closed").at(crate::NAME, operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_names_as_they_are_and_nothing_that_disturbs_a_log() {
        let refusal = Refusal { code: 404, text: "no queue 'q'\n\u{1b}[31m".to_owned() };
        assert_eq!(refusal.to_string(), "404 no queue 'q'\\n\\u{1b}[31m");
    }

    #[test]
    fn the_size_and_limit_of_a_refused_body_are_read() {
        let text = "PRECONDITION_FAILED - message size 70000 is larger than configured max size \
                    65536";
        let refusal = Refusal { code: 406, text: text.to_owned() };
        assert_eq!(refusal.too_large(), Some((70_000, 65_536)));
        let other = Refusal { code: 406, text: "PRECONDITION_FAILED - unknown".to_owned() };
        assert_eq!(other.too_large(), None);
    }

    #[test]
    fn what_the_server_denies_is_read_as_far_as_it_is_named() {
        let denied = |text: &str| {
            let refusal = Refusal { code: 403, text: format!("ACCESS_REFUSED - {text}") };
            let (exchange, routing_key) = refusal.denied().unwrap();
            (exchange.map(str::to_owned), routing_key.map(str::to_owned))
        };
        let [x, key] = ["x", "tasks.a"].map(|name| Some(name.to_owned()));
        let text = "access to exchange 'x' in vhost '/' refused for user 'u'";
        assert_eq!(denied(text), (x.clone(), None));
        let text = "write access to topic 'tasks.a' in exchange 'x' in vhost '/' refused";
        assert_eq!(denied(text), (x, key));
        assert_eq!(denied("write access to exchange 'cut"), (None, None));
        assert_eq!(Refusal { code: 404, text: "exchange 'x'".to_owned() }.denied(), None);
    }

    #[test]
    fn names_that_the_library_panics_on_are_refused() {
        assert!(check_short("queue", &"x".repeat(255)).is_ok());
        let error = check_short("queue", &"x".repeat(256)).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidName);
        assert!(error.to_string().contains("queue"));
    }
}
