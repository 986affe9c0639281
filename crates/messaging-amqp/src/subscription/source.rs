//! What a subscription receives, as queues.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::spec::{Membership, Source as Wanted};
use messaging_core::{
    Error, ErrorKind, MessageId, Patterns, Result, StreamName, SubscribeSpec, Topology,
};

use super::desk::{Returning, SUSPECTS};
use crate::topology::{self, Declaration, GroupShape, Names, Queue};

/// What is consumed.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The queue of a group, and that of its suspects.
    Group(GroupShape),
    /// The dead letters of a stream, which all groups of them share.
    DeadLetters { stream: StreamName, retention: Duration },
    /// A queue of its own.
    Own { patterns: Patterns },
}

/// The queues to consume, in the order of their lanes, and what is declared before.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) declarations: Vec<Declaration>,
    pub(super) queues: Vec<String>,
}

impl Source {
    pub(super) fn of(spec: &SubscribeSpec, topology: &Topology) -> Result<Self> {
        match (&spec.source, &spec.membership) {
            (Wanted::DeadLetters(stream), _) => {
                let config = topology.require(stream.name())?;
                let retention = config.dead_letter_retention;
                Ok(Self::DeadLetters { stream: stream.clone(), retention })
            }
            (Wanted::Subjects(patterns), Membership::Broadcast) => {
                topology.streams_for(patterns)?;
                Ok(Self::Own { patterns: patterns.clone() })
            }
            (Wanted::Subjects(patterns), Membership::Group(name)) => {
                topology.streams_for(patterns)?;
                if spec.ordered && spec.priority {
                    let text = format!("group {name}: an ordered group has no priorities");
                    return Err(Error::new(ErrorKind::InvalidConfig, text));
                }
                Ok(Self::Group(GroupShape {
                    name: name.clone(),
                    patterns: patterns.clone(),
                    ordered: spec.ordered,
                    priority: spec.priority,
                }))
            }
        }
    }

    /// What is declared and consumed. A queue of its own has another name each time, as the server
    /// may still know the last one.
    pub(super) fn places(&self, names: &Names, topology: &Topology) -> Places {
        let mut places = self.own_places(names, topology);
        places.declarations.splice(..0, topology::exchanges(names));
        places
    }

    fn own_places(&self, names: &Names, topology: &Topology) -> Places {
        match self {
            Self::Group(group) => {
                let mut queues = vec![group.name.to_string()];
                if !group.ordered {
                    queues.push(names.suspects(&group.name));
                }
                Places { declarations: group.declarations(names, &topology.tiers), queues }
            }
            Self::DeadLetters { stream, retention } => Places {
                declarations: topology::dead_letters(names, stream, *retention),
                queues: vec![names.dead_letters(stream)],
            },
            Self::Own { patterns } => {
                let name = format!("{}.own.{}", names.exchange(), MessageId::generate());
                let mut declarations = vec![Queue::exclusive(&name).into()];
                declarations.extend(topology::bindings(names, &name, patterns));
                Places { declarations, queues: vec![name] }
            }
        }
    }

    /// How a message comes again.
    pub(super) const fn returning(&self) -> Returning {
        match self {
            Self::Group(GroupShape { ordered: true, .. }) => {
                Returning::InPlace { keyed: true, keeps_rejected: false }
            }
            // A classic queue says only that a message was returned, not how often.
            Self::Group(GroupShape { priority: true, .. }) => Returning::AsCopy { trial_after: 1 },
            Self::Group(_) => Returning::AsCopy { trial_after: 2 },
            Self::DeadLetters { .. } => Returning::InPlace { keyed: false, keeps_rejected: true },
            Self::Own { .. } => Returning::InPlace { keyed: false, keeps_rejected: false },
        }
    }

    /// The exchanges through which only copies of ours come.
    pub(super) fn ours(&self, names: &Names) -> Vec<Arc<str>> {
        match self {
            Self::Group(group) => {
                vec![names.returned(&group.name).into(), names.suspects(&group.name).into()]
            }
            Self::DeadLetters { .. } => vec![names.dead_letter_exchange().into()],
            Self::Own { .. } => Vec::new(),
        }
    }

    /// A queue that is always empty, where there is one.
    pub(super) fn marker(&self, names: &Names) -> Option<String> {
        match self {
            Self::Group(group) => Some(names.marker(&group.name)),
            Self::DeadLetters { .. } | Self::Own { .. } => None,
        }
    }

    /// Who gives a message up, for whoever reads the dead letter.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Group(group) => group.name.as_str(),
            Self::DeadLetters { .. } => "dead letters",
            Self::Own { .. } => "broadcast",
        }
    }

    /// Whether members wait for each other, so that the queue is kept until nothing is in hand.
    pub(super) const fn is_ordered(&self) -> bool {
        matches!(self, Self::Group(GroupShape { ordered: true, .. }))
    }

    /// Whether the queue of a lane is kept by a majority of nodes, and so never moves.
    pub(super) const fn is_quorum(&self, lane: u32) -> bool {
        match self {
            Self::Group(group) => !group.priority || lane == SUSPECTS,
            Self::DeadLetters { .. } => true,
            Self::Own { .. } => false,
        }
    }

    /// Whether its queue ends with the connection.
    pub(super) const fn is_own(&self) -> bool {
        matches!(self, Self::Own { .. })
    }
}
