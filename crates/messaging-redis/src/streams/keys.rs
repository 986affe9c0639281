//! The names of keys. All that belongs to a lane is in the lane's slot, so that scripts work on a
//! cluster.

use std::hash::{DefaultHasher, Hash, Hasher};

use messaging_core::{GroupName, StreamName};

/// One lane of a stream: a key, and what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) stream: StreamName,
    pub(crate) number: u32,
    pub(crate) key: String,
    /// Tells its slot apart from those of others.
    pub(crate) shard: u64,
}

impl Lane {
    pub(crate) fn new(prefix: &str, stream: &StreamName, number: u32) -> Self {
        let key = match number {
            0 => format!("{prefix}.{stream}"),
            number => format!("{prefix}.{stream}:{number}"),
        };
        let shard = shard_of(&key);
        Self { stream: stream.clone(), number, key, shard }
    }

    /// The entries of a group that wait for their time, by time.
    pub(crate) fn due(&self, group: &str) -> String {
        self.beside("due", group)
    }

    /// How often an entry was in the hands of a member that died.
    pub(crate) fn suspects(&self, group: &str) -> String {
        self.beside("suspects", group)
    }

    /// The entry that is tried alone, as it has killed members before.
    pub(crate) fn trial(&self, group: &str) -> String {
        self.beside("trial", group)
    }

    /// Who owns the lane in an ordered group.
    pub(crate) fn lease(&self, group: &str) -> String {
        self.beside("lease", group)
    }

    fn beside(&self, what: &str, group: &str) -> String {
        format!("{{{}}}.{what}.{group}", self.key)
    }
}

/// Tells keys of different slots apart.
pub(crate) fn shard_of(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// What the members of a group have agreed to receive. A group of dead letters is another group
/// than one of subjects with its name.
pub(crate) fn shape(prefix: &str, group: &GroupName, dead_letters: Option<&StreamName>) -> String {
    match dead_letters {
        None => format!("{prefix}.group.{group}"),
        Some(stream) => format!("{prefix}.group.{group}.{stream}"),
    }
}

/// The streams there are, with what they are like. No stream has a name that begins with `_`.
pub(crate) fn streams(prefix: &str) -> String {
    format!("{prefix}._streams")
}

/// The keys of what groups have agreed on.
pub(crate) fn groups(prefix: &str) -> String {
    format!("{prefix}._groups")
}

/// The members of an ordered group, by the time they were last seen.
pub(crate) fn members(shape: &str) -> String {
    format!("{shape}.members")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_format() {
        let stream: StreamName = "tasks".parse().unwrap();
        let lane = Lane::new("helixagent", &stream, 0);
        assert_eq!(lane.key, "helixagent.tasks");
        assert_eq!(lane.due("worker-1"), "{helixagent.tasks}.due.worker-1");
        assert_eq!(Lane::new("helixagent", &stream, 3).key, "helixagent.tasks:3");
        let dead = Lane::new("helixagent", &stream.to_dead_letters(), 0);
        assert_eq!(dead.key, "helixagent.dlq.tasks");
        let group = "g".parse().unwrap();
        assert_eq!(shape("helixagent", &group, None), "helixagent.group.g");
        assert_eq!(shape("h", &group, Some(&dead.stream)), "h.group.g.dlq.tasks");
    }
}
