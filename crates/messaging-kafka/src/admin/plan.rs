//! What the topology names, against what there is.

use std::time::Duration;

use messaging_core::driver::{Action, Change, Plan, Target};
use messaging_core::duration::format_duration;
use messaging_core::topology::GroupConfig;
use messaging_core::{Error, ErrorKind, Result, Topology};

use super::found::{self, Group};
use super::group::{self, Drift};
use super::spec::{
    Content, MAX_MESSAGE, MIN_IN_SYNC, RETENTION, content, counted, in_sync, retry_topics,
    stream_topics,
};
use crate::cluster::Topic;
use crate::driver::Shared;
use crate::topics::{self, Configs, TopicSpec};

/// What is to be done to one topic or group.
#[derive(Debug)]
pub(super) enum Step {
    Create(TopicSpec),
    Grow {
        name: String,
        partitions: u32,
    },
    Configure {
        name: String,
        configs: Configs,
    },
    /// Comes behind everything that is done to topics.
    Place(GroupConfig),
}

/// What `apply` would do, for the eye and for the hand.
pub(super) async fn plan(shared: &Shared, topology: &Topology) -> Result<(Plan, Vec<Step>)> {
    let known = shared.cluster.metadata(None).await?;
    let groups = found::groups(shared, &known).await?;
    let mut plan = Plan::default();
    let mut steps = Vec::new();
    for stream in &topology.streams {
        let target = Target::Stream(stream.name.clone()).to_string();
        let specs = stream_topics(shared, stream)?.into();
        let compared = compare(shared, &known, specs).await?;
        plan.changes.extend(compared.change(target));
        steps.extend(compared.steps);
    }
    for config in &topology.groups {
        let id = shared.group_id(&config.name, None);
        let found = groups.iter().find(|found| found.id == id);
        let (change, more) = plan_group(shared, topology, config, &known, found).await?;
        plan.changes.extend(change);
        steps.extend(more);
    }
    for topic in known.iter().filter(|topic| !topic.is_internal) {
        if let Some(Content::Stream(name)) = content(&shared.config.prefix, &topic.name)
            && !name.is_dead_letters()
            && topology.stream(name.name()).is_none()
        {
            plan.unmanaged.push(Target::Stream(name).to_string());
        }
    }
    for found in groups.into_iter().filter(|found| found.dead_letters.is_none()) {
        if !topology.groups.iter().any(|config| config.name == found.name) {
            plan.unmanaged.push(Target::Group(found.name).to_string());
        }
    }
    Ok((plan, steps))
}

/// Makes it so.
pub(super) async fn apply(shared: &Shared, topology: &Topology, steps: Vec<Step>) -> Result<()> {
    let cluster = &shared.cluster;
    let (mut doing, mut groups) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Place(config) => groups.push(config),
            step => doing.push(async move {
                match step {
                    Step::Create(spec) => topics::create(cluster, &spec).await,
                    Step::Grow { name, partitions } => {
                        topics::grow(cluster, &name, partitions).await
                    }
                    Step::Configure { name, configs } => {
                        topics::configure(cluster, &name, &configs).await
                    }
                    Step::Place(_) => Ok(()),
                }
            }),
        }
    }
    futures::future::try_join_all(doing).await?;
    for config in groups {
        group::place(shared, topology, &config).await?;
    }
    Ok(())
}

async fn plan_group(
    shared: &Shared,
    topology: &Topology,
    config: &GroupConfig,
    known: &[Topic],
    found: Option<&Group>,
) -> Result<(Option<Change>, Vec<Step>)> {
    group::check(config)?;
    let target = Target::Group(config.name.clone()).to_string();
    let retries = retry_topics(shared, topology, &config.name)?;
    let mut compared = compare(shared, known, retries).await?;
    let asked = config.patterns.to_string();
    match group::drift(shared, topology, config, found).await? {
        Some(Drift::Missing) => {
            let change = Change::new(Action::Create, target, asked);
            compared.steps.push(Step::Place(config.clone()));
            return Ok((Some(change), compared.steps));
        }
        Some(Drift::Other(now)) => {
            compared.now.insert(0, now);
            compared.asked.insert(0, asked);
            compared.steps.push(Step::Place(config.clone()));
        }
        None => {}
    }
    // The group is there, whatever of its topics is not.
    compared.is_new = false;
    Ok((compared.change(target), compared.steps))
}

/// How the topics of one target differ from what they are to be.
#[derive(Debug, Default)]
struct Compared {
    /// Whether the first of the topics does not exist.
    is_new: bool,
    now: Vec<String>,
    asked: Vec<String>,
    steps: Vec<Step>,
}

impl Compared {
    fn change(&self, target: String) -> Option<Change> {
        let (now, asked) = (self.now.join(", "), self.asked.join(", "));
        match (self.is_new, self.asked.is_empty()) {
            (true, _) => Some(Change::new(Action::Create, target, asked)),
            (false, true) => None,
            (false, false) => {
                let detail = format!("now {now}, asked {asked}");
                Some(Change::new(Action::Alter, target, detail))
            }
        }
    }

    fn differs(&mut self, name: &str, now: impl AsRef<str>, asked: impl AsRef<str>) {
        self.now.push(format!("{name} {}", now.as_ref()));
        self.asked.push(format!("{name} {}", asked.as_ref()));
    }
}

async fn compare(shared: &Shared, known: &[Topic], specs: Vec<TopicSpec>) -> Result<Compared> {
    let mut compared = Compared::default();
    for (at, spec) in specs.into_iter().enumerate() {
        match known.iter().find(|topic| topic.name == spec.name) {
            Some(topic) => compare_topic(shared, topic, spec, &mut compared).await?,
            None => {
                compared.is_new |= at == 0;
                compared.differs(&spec.name, "missing", told_all(&spec));
                compared.steps.push(Step::Create(spec));
            }
        }
    }
    Ok(compared)
}

async fn compare_topic(
    shared: &Shared,
    topic: &Topic,
    mut spec: TopicSpec,
    compared: &mut Compared,
) -> Result<()> {
    let name = &spec.name;
    let has = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    if has > spec.partitions {
        let text = format!(
            "topic {name} has {has} partitions and is to have {}; Kafka takes none away, so ask for \
             at least {has}, or give the stream another name",
            spec.partitions
        );
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    if has < spec.partitions {
        let partitions = spec.partitions;
        let told = |count: u32| counted(count as usize, "partition", "partitions");
        compared.differs(name, told(has), told(partitions));
        compared.steps.push(Step::Grow { name: name.clone(), partitions });
    }
    // More copies of what is there are made by Kafka's own tool; until then its settings have to suit
    // those that it has.
    let copies = topic.partitions.iter().map(|partition| partition.replicas.len()).min();
    let copies = copies.and_then(|copies| u16::try_from(copies).ok()).unwrap_or(spec.replication);
    if copies < spec.replication {
        let in_sync = in_sync(shared, copies).min(copies);
        spec.configs.insert(MIN_IN_SYNC, Some(in_sync.to_string()));
    }
    let is = topics::configs(&shared.cluster, name).await?;
    let mut configs = Configs::new();
    for (key, asked) in spec.configs {
        let now = is.get(key).unwrap_or_default();
        let differs = match &asked {
            None => is.is_own(key),
            // More than enough room is no drift.
            Some(asked) if key == MAX_MESSAGE => number(now) < number(asked),
            Some(asked) => now != asked,
        };
        if differs {
            let of_broker = || format!("{key} of the broker");
            let asks = asked.as_ref().map_or_else(of_broker, |asked| told(key, asked));
            compared.differs(name, told(key, now), asks);
            configs.insert(key, asked);
        }
    }
    if !configs.is_empty() {
        compared.steps.push(Step::Configure { name: name.clone(), configs });
    }
    Ok(())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

fn told_all(spec: &TopicSpec) -> String {
    let partitions = counted(spec.partitions as usize, "partition", "partitions");
    let copies = counted(spec.replication.into(), "copy", "copies");
    let configs = spec.configs.iter().filter_map(|(key, value)| Some(told(key, value.as_ref()?)));
    let configs = configs.map(|told| format!(", {told}"));
    format!("{partitions}, {copies}{}", configs.collect::<String>())
}

/// A setting for the eye.
fn told(key: &str, value: &str) -> String {
    match (key, value.parse::<i64>()) {
        (RETENTION, Ok(millis)) => match u64::try_from(millis) {
            Ok(millis) => format!("kept {}", format_duration(Duration::from_millis(millis))),
            Err(_) => "kept for ever".to_owned(),
        },
        _ => format!("{key}={value}"),
    }
}
