//! Which channels bring what a listener's patterns match.

use std::sync::Arc;

use messaging_core::{Pattern, Patterns, Subject};

/// The server's subscriptions for a set of patterns.
///
/// A `*` of the server crosses dots, so its patterns bring more than ours match, and a message
/// comes once for each that matches. Each of ours has one subscription that brings all of it, and a
/// message counts where it comes through that of the first pattern that matches: exactly once.
#[derive(Debug)]
pub(super) struct Routes {
    /// What each channel begins with, the dot included.
    prefix: String,
    all: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    pattern: Pattern,
    through: Through,
}

/// A subscription of the server's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Through {
    Channel(String),
    Glob(String),
}

impl Routes {
    pub(super) fn new(prefix: &str, patterns: &Patterns) -> Self {
        let route = |pattern: &Pattern| Route {
            pattern: pattern.clone(),
            through: through(prefix, pattern.as_ref()),
        };
        Self { prefix: format!("{prefix}."), all: patterns.iter().map(route).collect() }
    }

    /// The channels to subscribe to by name.
    pub(super) fn channels(&self) -> Vec<&str> {
        self.each(|through| match through {
            Through::Channel(name) => Some(name),
            Through::Glob(_) => None,
        })
    }

    /// The server's patterns to subscribe to.
    pub(super) fn globs(&self) -> Vec<&str> {
        self.each(|through| match through {
            Through::Glob(glob) => Some(glob),
            Through::Channel(_) => None,
        })
    }

    fn each<'a>(&'a self, which: impl Fn(&'a Through) -> Option<&'a String>) -> Vec<&'a str> {
        let routes = self.all.iter().map(|route| &route.through);
        let mut each: Vec<&str> = routes.filter_map(which).map(String::as_str).collect();
        each.sort_unstable();
        each.dedup();
        each
    }

    /// What the messages of a channel are; `None` where no pattern matches.
    pub(super) fn find(&self, channel: &[u8]) -> Option<Found> {
        let channel = std::str::from_utf8(channel).ok()?;
        let subject: Subject = channel.strip_prefix(&self.prefix)?.parse().ok()?;
        let first = self.all.iter().find(|route| route.pattern.matches(&subject))?;
        let glob = match &first.through {
            Through::Channel(_) => None,
            Through::Glob(glob) => Some(glob.clone().into()),
        };
        Some(Found { subject, glob })
    }
}

/// The subject of a channel, and through which pattern of the server's its messages count, if
/// through one.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) subject: Subject,
    glob: Option<Arc<str>>,
}

impl Found {
    /// Whether a message counts that came through this pattern of the server's, or by name.
    pub(super) fn counts(&self, glob: Option<&[u8]>) -> bool {
        self.glob.as_deref().map(str::as_bytes) == glob
    }
}

/// The one subscription that brings everything a pattern matches.
fn through(prefix: &str, pattern: &str) -> Through {
    let mut glob = prefix.to_owned();
    // A `#` that comes first stands for words each followed by a dot, any other for words each
    // with a dot before it; `*` brings both, and none at all.
    let mut dotted = false;
    let mut literal = true;
    for (at, word) in pattern.split('.').enumerate() {
        if word == "#" && at > 0 {
            push_star(&mut glob);
        } else {
            if !dotted {
                glob.push('.');
            }
            dotted = word == "#";
            match word {
                "#" | "*" => push_star(&mut glob),
                word => glob.push_str(word),
            }
        }
        literal &= !matches!(word, "#" | "*");
    }
    if literal { Through::Channel(glob) } else { Through::Glob(glob) }
}

/// Many stars match what one does, and cost the server time.
fn push_star(glob: &mut String) {
    if !glob.ends_with('*') {
        glob.push('*');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(patterns: &[&str]) -> Routes {
        Routes::new("p", &Patterns::new(patterns).unwrap())
    }

    /// As the server matches: `*` is any bytes.
    fn server_matches(glob: &[u8], channel: &[u8]) -> bool {
        match glob {
            [] => channel.is_empty(),
            [b'*', rest @ ..] => {
                (0..=channel.len()).any(|taken| server_matches(rest, &channel[taken..]))
            }
            [byte, rest @ ..] => {
                channel.first() == Some(byte) && server_matches(rest, &channel[1..])
            }
        }
    }

    /// How often a message published to a channel counts.
    fn counted(routes: &Routes, channel: &str) -> usize {
        let Some(found) = routes.find(channel.as_bytes()) else { return 0 };
        let by_name = routes.channels().into_iter().filter(|name| *name == channel);
        let named = by_name.filter(|_| found.counts(None)).count();
        let channel = channel.as_bytes();
        let by_glob = routes.globs().into_iter().map(str::as_bytes);
        let by_glob = by_glob.filter(|glob| server_matches(glob, channel));
        named + by_glob.filter(|glob| found.counts(Some(glob))).count()
    }

    #[test]
    fn a_pattern_is_one_channel_or_one_glob_of_the_server() {
        let routes = routes(&["tasks.a", "tasks.#", "events.*", "#", "#.done", "a.#.#.b", "*.x"]);
        assert_eq!(routes.channels(), ["p.tasks.a"]);
        assert_eq!(routes.globs(), ["p.*", "p.*.x", "p.*done", "p.a*.b", "p.events.*", "p.tasks*"]);
    }

    #[test]
    fn what_the_server_brings_too_much_does_not_count() {
        let routes = routes(&["tasks.*"]);
        for channel in ["p.tasks", "p.tasks.a.b", "p.tasksx", "q.tasks.a", "p.dlq.a", "p.tasks.a b"]
        {
            assert!(routes.find(channel.as_bytes()).is_none(), "{channel}");
        }
        assert!(routes.find(b"p.tasks.\xff").is_none());
        assert!(routes.find(b"p.tasks.a").unwrap().counts(Some(b"p.tasks.*")));
    }

    proptest! {
        #[test]
        fn whatever_matches_counts_once_and_nothing_else_counts(
            patterns in prop::collection::vec(
                prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 1..=5),
                1..=4,
            ),
            words in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 1..=5),
        ) {
            let patterns = patterns.iter().map(|words| words.join("."));
            let patterns = Patterns::new(patterns).unwrap();
            let subject = words.join(".");
            let expected = usize::from(patterns.matches(&subject.parse().unwrap()));
            let routes = Routes::new("p", &patterns);
            prop_assert_eq!(counted(&routes, &format!("p.{subject}")), expected);
        }
    }
}
