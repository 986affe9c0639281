//! Patterns: which subjects a subscription receives. This is the single truth for all backends.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::subject::{self, Subject};

/// Dot-separated words, `*` for exactly one word and `#` for zero or more, at most 200 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Whether a subject matches.
    ///
    /// It takes at most words of the pattern × words of the subject steps, whatever the pattern.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        matches(&self.0, subject, &mut 0)
    }

    /// The stream it is about; `None` where its first word is a wildcard: all streams.
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        self.0.split('.').next().filter(|first| !matches!(*first, "*" | "#"))
    }
}

/// Walks both from the left. At a mismatch, only the last `#` can take one more word: what an
/// earlier one could have taken, the last one can take as well.
fn matches(pattern: &str, subject: &str, steps: &mut usize) -> bool {
    let mut wanted = pattern.split('.');
    let mut words = subject.split('.');
    let mut last_hash = None;
    loop {
        *steps += 1;
        let before = words.clone();
        match (wanted.next(), words.next()) {
            (Some("#"), _) => {
                words = before;
                last_hash = Some((wanted.clone(), words.clone()));
                continue;
            }
            (None, None) => return true,
            (Some("*"), Some(_)) => continue,
            (Some(want), Some(word)) if want == word => continue,
            (Some(_) | None, _) => {}
        }
        let Some((after_hash, taken)) = &mut last_hash else { return false };
        if taken.next().is_none() {
            return false;
        }
        wanted = after_hash.clone();
        words = taken.clone();
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match fault(text) {
            None => Ok(Self(text.into())),
            Some(reason) => {
                let accepted = "dot-separated words of [A-Za-z0-9_-], * for one word, # for zero \
                                or more, at most 200 bytes, e.g. tasks.#";
                Err(Error::invalid(ErrorKind::InvalidPattern, "pattern", text, reason, accepted))
            }
        }
    }
}

fn fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > Subject::MAX_BYTES {
        return Some("it is too long");
    }
    let mut words = text.split('.');
    if words.clone().any(str::is_empty) {
        return Some("it has an empty word");
    }
    let is_wildcard = |word: &str| matches!(word, "*" | "#");
    if words.clone().any(|word| !is_wildcard(word) && !word.bytes().all(subject::is_word_byte)) {
        return Some("it has an illegal character; wildcards stand alone in a word");
    }
    words.next().filter(|first| !is_wildcard(first)).and_then(subject::fault)
}

impl AsRef<str> for Pattern {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The patterns of a group: at least one, in order, each once. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Patterns(Arc<[Pattern]>);

impl Patterns {
    /// Makes a set.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidPattern`] for an illegal pattern or none at all.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self> {
        let parse = |pattern: P| pattern.as_ref().parse();
        let mut all: Vec<Pattern> = patterns.into_iter().map(parse).collect::<Result<_>>()?;
        if all.is_empty() {
            let text = "no pattern given (accepted: at least one, e.g. tasks.#)";
            return Err(Error::new(ErrorKind::InvalidPattern, text));
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self(all.into()))
    }

    /// Whether one of them matches.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        self.iter().any(|pattern| pattern.matches(subject))
    }

    /// All of them, in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Pattern> {
        self.0.iter()
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pattern) in self.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{pattern}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern, words) {
            ([], []) => true,
            (["#", rest @ ..], _) => {
                naive(rest, words) || (!words.is_empty() && naive(pattern, &words[1..]))
            }
            ([want, rest @ ..], [word, more @ ..]) => {
                (*want == "*" || want == word) && naive(rest, more)
            }
            _ => false,
        }
    }

    fn check(pattern: &str, subject: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(&subject.parse().unwrap())
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_any_number() {
        assert!(check("tasks.*", "tasks.completion"));
        assert!(!check("tasks.*", "tasks"));
        assert!(!check("tasks.*", "tasks.debate.round"));
        assert!(check("tasks.#", "tasks"));
        assert!(check("tasks.#", "tasks.debate.round"));
        assert!(check("#.round", "tasks.debate.round"));
        assert!(check("#", "tasks"));
    }

    #[test]
    fn matching_is_linear_on_adversarial_patterns() {
        let pattern = ["#.a"; 60].join(".");
        let subject = ["a"; 99].join(".") + ".b";
        let mut steps = 0;
        assert!(!matches(&pattern, &subject, &mut steps));
        assert!(steps <= 2 * 120 * 100, "{steps} steps");
    }

    #[test]
    fn illegal_patterns_are_refused_with_the_accepted_form() {
        for text in ["", "a..b", "ta*", "a.#x", "dlq.#", "retry", "_a.#", "a b", &"#.".repeat(101)]
        {
            let error = text.parse::<Pattern>().unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidPattern, "{text}");
        }
        assert!(Patterns::new(Vec::<&str>::new()).is_err());
    }

    #[test]
    fn a_set_of_patterns_has_no_order_and_no_duplicates() {
        let one = Patterns::new(["b.#", "a.*", "b.#"]).unwrap();
        assert_eq!(one, Patterns::new(["a.*", "b.#"]).unwrap());
        assert_eq!(one.to_string(), "a.* b.#");
    }

    proptest! {
        #[test]
        fn matching_equals_the_naive_definition(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 1..=12),
            words in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..=12),
        ) {
            prop_assert_eq!(check(&pattern.join("."), &words.join(".")), naive(&pattern, &words));
        }
    }
}
