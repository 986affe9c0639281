//! What the topology names, against what there is.

use messaging_core::driver::{Action, Change, Plan, Target};
use messaging_core::duration::format_duration;
use messaging_core::topology::{GroupConfig, StreamConfig, StreamKind};
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName, Topology};
use redis::Value;

use super::super::driver::Shared;
use super::super::groups::{Group, shape_of};
use super::super::keys::{self, Lane};
use crate::connection::Link;
use crate::wire::{array, bytes, field, number, text};

/// What `apply` would do.
pub(super) async fn plan(link: &mut Link, prefix: &str, topology: &Topology) -> Result<Plan> {
    let known = streams(link, prefix).await?;
    let mut plan = Plan::default();
    for config in &topology.streams {
        let found = known.iter().find(|(name, _)| name == config.name.name());
        plan.changes.extend(plan_stream(link, prefix, config, found.map(|(_, is)| &**is)).await?);
    }
    for config in &topology.groups {
        plan.changes.extend(plan_group(link, prefix, topology, config).await?);
    }
    for (name, _) in known.iter().filter(|(name, _)| topology.stream(name).is_none()) {
        plan.unmanaged.push(Target::Stream(name.parse()?).to_string());
    }
    for (name, _) in groups(link, prefix).await? {
        if !topology.groups.iter().any(|group| group.name == name) {
            plan.unmanaged.push(Target::Group(name).to_string());
        }
    }
    Ok(plan)
}

/// Makes it so. Repeating it changes nothing.
pub(super) async fn apply(link: &mut Link, prefix: &str, topology: &Topology) -> Result<()> {
    for config in &topology.streams {
        for lane in lanes(prefix, config) {
            create_stream(link, &lane).await?;
        }
        let mut command = redis::cmd("HSET");
        command.arg(keys::streams(prefix)).arg(config.name.name()).arg(describe(config));
        link.run(&command, "stream").await?;
    }
    for config in &topology.groups {
        let group = configured(prefix, topology, config)?;
        let shape = shape_of(&config.patterns, config.ordered);
        if let Some(key) = &group.shape {
            let mut command = redis::cmd("SET");
            command.arg(key).arg(&shape);
            link.run(&command, "group").await?;
        }
        group.open(link, prefix, &shape).await?;
    }
    Ok(())
}

/// Deletes a group that nobody is a member of, or a stream without such groups.
pub(super) async fn delete(link: &mut Link, shared: &Shared, target: &Target) -> Result<()> {
    let prefix = &shared.config.prefix;
    match target {
        Target::Group(name) => {
            let known = groups(link, prefix).await?;
            if !known.iter().any(|(known, _)| known == name) {
                return Err(missing(target));
            }
            delete_group(link, shared, name, target).await
        }
        Target::Stream(name) => delete_stream(link, shared, name, target).await,
        _ => Err(missing(target)),
    }
}

/// The streams there are, with what they are like.
pub(super) async fn streams(link: &mut Link, prefix: &str) -> Result<Vec<(String, String)>> {
    let mut command = redis::cmd("HGETALL");
    command.arg(keys::streams(prefix));
    let pairs = match link.run(&command, "streams").await? {
        Value::Map(pairs) => pairs,
        other => {
            let mut values = array(other).into_iter();
            std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect()
        }
    };
    let as_text = |value: &Value| text(value).unwrap_or_default().to_owned();
    let mut all: Vec<(String, String)> =
        pairs.iter().map(|(name, is)| (as_text(name), as_text(is))).collect();
    all.sort();
    Ok(all)
}

/// The groups of subjects there are, with what their members agree on, by name.
pub(super) async fn groups(link: &mut Link, prefix: &str) -> Result<Vec<(GroupName, String)>> {
    let mut command = redis::cmd("SMEMBERS");
    command.arg(keys::groups(prefix));
    let mut all = Vec::new();
    let members = match link.run(&command, "groups").await? {
        Value::Set(members) => members,
        other => array(other),
    };
    for key in members {
        let Some(key) = text(&key) else { continue };
        let name = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(".group."));
        // One of dead letters has its stream behind its name, and belongs to that.
        let Some(Ok(name)) = name.map(str::parse::<GroupName>) else { continue };
        let mut get = redis::cmd("GET");
        get.arg(key);
        if let Some(shape) = bytes(link.run(&get, "group").await?) {
            all.push((name, String::from_utf8_lossy(&shape).into_owned()));
        }
    }
    all.sort();
    Ok(all)
}

async fn plan_stream(
    link: &mut Link,
    prefix: &str,
    config: &StreamConfig,
    found: Option<&str>,
) -> Result<Option<Change>> {
    let target = format!("stream {}", config.name);
    let wanted = describe(config);
    for lane in lanes(prefix, config) {
        let mut command = redis::cmd("EXISTS");
        command.arg(&lane.key);
        if number(&link.run(&command, "stream").await?) != Some(1) {
            return Ok(Some(Change::new(Action::Create, target, wanted)));
        }
    }
    let Some(found) = found else {
        return Ok(Some(Change::new(Action::Create, target, wanted)));
    };
    if lanes_text(found) != lanes_text(&wanted) {
        let text = format!(
            "{target} is {found} and is to be {wanted}; keys would change lanes, so give the \
             stream another name"
        );
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    Ok((found != wanted).then(|| drift(target, found, &wanted)))
}

async fn plan_group(
    link: &mut Link,
    prefix: &str,
    topology: &Topology,
    config: &GroupConfig,
) -> Result<Option<Change>> {
    let target = format!("group {}", config.name);
    let group = configured(prefix, topology, config)?;
    let wanted = shape_of(&config.patterns, config.ordered);
    let mut get = redis::cmd("GET");
    get.arg(group.shape.as_deref().unwrap_or_default());
    let found = bytes(link.run(&get, "group").await?);
    let Some(found) = found.map(|found| String::from_utf8_lossy(&found).into_owned()) else {
        return Ok(Some(Change::new(Action::Create, target, wanted)));
    };
    let ordered = |shape: &str| shape.ends_with(", ordered");
    if ordered(&found) != ordered(&wanted) {
        let text = format!(
            "{target} is {found} and is to be {wanted}; only its patterns can change, so give the \
             group another name"
        );
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    if found != wanted {
        return Ok(Some(drift(target, &found, &wanted)));
    }
    for lane in &group.lanes {
        if !has_group(link, lane, &group.name).await? {
            let found = format!("not on {}", lane.key);
            return Ok(Some(drift(target, &found, &wanted)));
        }
    }
    Ok(None)
}

fn configured(prefix: &str, topology: &Topology, config: &GroupConfig) -> Result<Group> {
    if config.priority {
        let text = format!("group {} is by priority, and a stream has one order", config.name);
        let kind = ErrorKind::Unsupported(messaging_core::Feature::Priority);
        return Err(Error::new(kind, text));
    }
    Group::configured(&config.name, &config.patterns, config.ordered, prefix, topology)
}

/// The groups of a lane that exists, as the server lists them.
pub(super) async fn groups_of(link: &mut Link, lane: &Lane) -> Result<Vec<Vec<Value>>> {
    let mut exists = redis::cmd("EXISTS");
    exists.arg(&lane.key);
    if number(&link.run(&exists, "stream").await?) != Some(1) {
        return Ok(Vec::new());
    }
    let mut command = redis::cmd("XINFO");
    command.arg("GROUPS").arg(&lane.key);
    Ok(array(link.run(&command, "groups").await?).into_iter().map(array).collect())
}

async fn has_group(link: &mut Link, lane: &Lane, name: &str) -> Result<bool> {
    let groups = groups_of(link, lane).await?;
    Ok(groups.iter().any(|group| field(group, "name").and_then(text) == Some(name)))
}

/// Makes an empty stream, which the server does only together with a group.
async fn create_stream(link: &mut Link, lane: &Lane) -> Result<()> {
    let mut exists = redis::cmd("EXISTS");
    exists.arg(&lane.key);
    if number(&link.run(&exists, "stream").await?) == Some(1) {
        return Ok(());
    }
    for action in ["CREATE", "DESTROY"] {
        let mut command = redis::cmd("XGROUP");
        command.arg(action).arg(&lane.key).arg("_new");
        if action == "CREATE" {
            command.arg("0").arg("MKSTREAM");
        }
        match link.run(&command, "stream").await {
            Err(error) if !error.to_string().contains("BUSYGROUP") => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn lanes(prefix: &str, config: &StreamConfig) -> Vec<Lane> {
    let lanes = (0..config.lanes.get()).map(|number| Lane::new(prefix, &config.name, number));
    lanes.chain([Lane::new(prefix, &config.name.to_dead_letters(), 0)]).collect()
}

fn describe(config: &StreamConfig) -> String {
    let kind = match config.kind {
        StreamKind::Work => "work",
        StreamKind::Log => "log",
    };
    let lanes = config.lanes;
    let retention = config.retention.map(format_duration);
    let kept = retention.map_or_else(String::new, |time| format!(", kept {time}"));
    let dead = format_duration(config.dead_letter_retention);
    format!("{kind}, lanes {lanes}{kept}, dead letters kept {dead}")
}

fn lanes_text(description: &str) -> Option<&str> {
    description.split(", ").find(|part| part.starts_with("lanes "))
}

fn drift(target: String, found: &str, wanted: &str) -> Change {
    Change::new(Action::Alter, target, format!("now {found}, asked {wanted}"))
}

fn missing(target: &Target) -> Error {
    Error::new(ErrorKind::NotFound, format!("{target} does not exist"))
}

fn in_use(target: &Target) -> Error {
    let text = format!("{target} has members; nothing was deleted");
    Error::new(ErrorKind::Unavailable, text)
}

/// Every lane of every stream there is.
pub(in super::super) async fn all_lanes(link: &mut Link, prefix: &str) -> Result<Vec<Lane>> {
    let mut all = Vec::new();
    for (name, description) in streams(link, prefix).await? {
        let Ok(stream) = name.parse::<StreamName>() else { continue };
        let count = lanes_text(&description).and_then(|text| text.strip_prefix("lanes "));
        let count: u32 = count.and_then(|count| count.parse().ok()).unwrap_or(1);
        all.extend((0..count).map(|number| Lane::new(prefix, &stream, number)));
        all.push(Lane::new(prefix, &stream.to_dead_letters(), 0));
    }
    Ok(all)
}

/// Whether a member of a group was seen lately.
async fn has_members(link: &mut Link, shared: &Shared, lane: &Lane, name: &str) -> Result<bool> {
    if !has_group(link, lane, name).await? {
        return Ok(false);
    }
    let mut command = redis::cmd("XINFO");
    command.arg("CONSUMERS").arg(&lane.key).arg(name);
    let silence = i64::try_from(shared.config.dead_after.as_millis()).unwrap_or(i64::MAX);
    let consumers = array(link.run(&command, "members").await?);
    Ok(consumers.into_iter().map(array).any(|consumer| {
        let idle = field(&consumer, "idle").and_then(number).unwrap_or_default();
        field(&consumer, "name").and_then(text) != Some("_due") && idle < silence
    }))
}

async fn delete_group(
    link: &mut Link,
    shared: &Shared,
    name: &GroupName,
    target: &Target,
) -> Result<()> {
    let prefix = &shared.config.prefix;
    let name = name.as_str();
    let lanes: Vec<Lane> = all_lanes(link, prefix).await?;
    let lanes: Vec<Lane> = lanes.into_iter().filter(|l| !l.stream.is_dead_letters()).collect();
    for lane in &lanes {
        if has_members(link, shared, lane, name).await? {
            return Err(in_use(target));
        }
    }
    for lane in &lanes {
        let mut command = redis::cmd("XGROUP");
        command.arg("DESTROY").arg(&lane.key).arg(name);
        link.run(&command, "group").await?;
        let mut command = redis::cmd("DEL");
        command.arg(lane.due(name)).arg(lane.suspects(name));
        command.arg(lane.trial(name)).arg(lane.lease(name));
        link.run(&command, "group").await?;
    }
    let shape = format!("{prefix}.group.{name}");
    for key in [&shape, &keys::members(&shape)] {
        let mut command = redis::cmd("DEL");
        command.arg(key);
        link.run(&command, "group").await?;
    }
    let mut command = redis::cmd("SREM");
    command.arg(keys::groups(prefix)).arg(&shape);
    link.run(&command, "group").await.map(drop)
}

async fn delete_stream(
    link: &mut Link,
    shared: &Shared,
    name: &StreamName,
    target: &Target,
) -> Result<()> {
    let prefix = &shared.config.prefix;
    let lanes: Vec<Lane> = all_lanes(link, prefix).await?;
    let lanes: Vec<Lane> =
        lanes.into_iter().filter(|lane| lane.stream.name() == name.name()).collect();
    if lanes.is_empty() {
        return Err(missing(target));
    }
    for lane in &lanes {
        for group in groups_of(link, lane).await? {
            let group = field(&group, "name").and_then(text).unwrap_or_default();
            if has_members(link, shared, lane, group).await? {
                return Err(in_use(target));
            }
        }
    }
    for lane in &lanes {
        let mut command = redis::cmd("DEL");
        command.arg(&lane.key);
        link.run(&command, "stream").await?;
    }
    let mut command = redis::cmd("HDEL");
    command.arg(keys::streams(prefix)).arg(name.name());
    link.run(&command, "stream").await.map(drop)
}
