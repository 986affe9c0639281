//! What waits for a group, counted at the server.

use std::collections::BTreeMap;
use std::time::Duration;

use messaging_core::driver::Lag;
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName};
use redis::Value;

use super::super::driver::Shared;
use super::super::scripts::call;
use super::plan::{all_lanes, groups_of};
use crate::connection::Link;
use crate::wire::{array, field, number, text};

/// Counts one group of one lane. KEYS: lane. ARGV: group. Gives what waits, what is in hand, and the
/// age in ms of the oldest or -1. It counts up to 10,000 itself, as `lag` is nil after an entry was
/// deleted, and was seen to be wrong after the server had been killed.
const COUNT: &str = "\
    local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) \
    local f \
    for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
      local h = {} for i = 1, #g, 2 do h[g[i]] = g[i + 1] end \
      if h.name == ARGV[1] then f = h end \
    end \
    if not f then return {0, 0, -1} end \
    local after = '(' .. f['last-delivered-id'] \
    local new = #redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 10001) \
    if new > 10000 then new = math.max(new, f.lag or 0) end \
    local due = 0 \
    for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
      local m = {} for i = 1, #c, 2 do m[c[i]] = c[i + 1] end \
      if m.name == '_due' then due = m.pending end \
    end \
    local oldest \
    if f.pending > 0 then oldest = redis.call('XPENDING', KEYS[1], ARGV[1])[2] else \
      local first = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)[1] \
      if first then oldest = first[1] end end \
    local age = -1 \
    if oldest then age = math.max(0, now - tonumber(string.match(oldest, '%d+'))) end \
    return {new + due, f.pending - due, age}";

/// One row a stream and group; the lanes of a stream are added up.
pub(super) async fn lag(
    link: &mut Link,
    shared: &Shared,
    wanted: Option<&GroupName>,
) -> Result<Vec<Lag>> {
    let mut rows: BTreeMap<(GroupName, StreamName), Lag> = BTreeMap::new();
    for lane in all_lanes(link, &shared.config.prefix).await? {
        for group in groups_of(link, &lane).await? {
            let name = field(&group, "name").and_then(text).unwrap_or_default();
            // A broadcast has no name of its own, and ends with its member.
            let Some(name) = name.parse::<GroupName>().ok().filter(|_| !name.starts_with('_'))
            else {
                continue;
            };
            if wanted.is_some_and(|wanted| *wanted != name) {
                continue;
            }
            let mut command = call(COUNT, &[&lane.key]);
            command.arg(name.as_str());
            let counted = array(link.run(&command, "lag").await?);
            let row = rows
                .entry((name.clone(), lane.stream.clone()))
                .or_insert_with(|| Lag::new(lane.stream.clone(), name.clone(), 0, 0, None));
            add(row, &counted);
        }
    }
    match wanted {
        Some(wanted) if rows.is_empty() => {
            Err(Error::new(ErrorKind::NotFound, format!("group {wanted} does not exist")))
        }
        _ => Ok(rows.into_values().collect()),
    }
}

fn add(row: &mut Lag, counted: &[Value]) {
    let count = |index: usize| counted.get(index).and_then(number);
    let count = |index| count(index).and_then(|n| u64::try_from(n).ok());
    row.waiting += count(0).unwrap_or_default();
    row.in_hand += count(1).unwrap_or_default();
    row.oldest = row.oldest.max(count(2).map(Duration::from_millis));
}
