//! What the broker's own tool says is there, read without our client.

use std::collections::BTreeSet;

use tests_integration::audit::Id;

use crate::group::{LANES, STREAM};
use crate::identity::Identity;
use crate::site::Site;

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct ReadBack {
    /// How many entries were ever added to the lanes.
    pub(crate) added: u64,
    /// Whose messages the lanes still keep.
    pub(crate) kept: BTreeSet<Id>,
    /// How many dead letters there are.
    pub(crate) dead: u64,
    /// What waits or is in hand in any group, as the server counts it.
    pub(crate) pending: u64,
}

/// The settings that the result assumes, as the server has them.
pub(crate) async fn settings(site: &Site) -> Result<Vec<(String, String)>, String> {
    let names =
        ["appendonly", "appendfsync", "save", "maxmemory-policy", "no-appendfsync-on-rewrite"];
    let mut settings = Vec::new();
    let info = site.tool(&["INFO", "server"]).await?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    settings.push(("redis".to_owned(), version.unwrap_or("?").trim().to_owned()));
    for name in names {
        let text = site.tool(&["CONFIG", "GET", name]).await?;
        let value = text.lines().nth(1).unwrap_or_default();
        settings.push((name.to_owned(), format!("{value:?}").replace("\"\"", "(nothing)")));
    }
    Ok(settings)
}

/// Reads everything.
pub(crate) async fn read_back(site: &Site, identity: &Identity) -> Result<ReadBack, String> {
    let mut found = ReadBack::default();
    for lane in 0..LANES {
        let key = if lane == 0 {
            format!("helixagent.{STREAM}")
        } else {
            format!("helixagent.{STREAM}:{lane}")
        };
        if site.tool(&["EXISTS", &key]).await?.trim() == "0" {
            continue;
        }
        let info = site.tool(&["XINFO", "STREAM", &key]).await?;
        found.added += field(&info, "entries-added").unwrap_or_default();
        let groups = site.tool(&["XINFO", "GROUPS", &key]).await?;
        found.pending += sum_of(&groups, "pending");
        // Counted, as the server's own lag was seen to be wrong after it had been killed.
        for last in values_of(&groups, "last-delivered-id") {
            let mut count = 0;
            read_entries(site, &key, &format!("({last}"), |line| {
                count += u64::from(is_entry_id(line));
            })
            .await?;
            found.pending += count;
        }
        read_entries(site, &key, "-", |line| {
            found.kept.extend(identity.claimed(line.as_bytes()).map(|(id, _)| id));
        })
        .await?;
    }
    let dead = format!("helixagent.dlq.{STREAM}");
    read_entries(site, &dead, "-", |line| {
        found.dead += u64::from(identity.claimed(line.as_bytes()).is_some());
    })
    .await?;
    Ok(found)
}

/// Shows each line of each entry of a stream.
async fn read_entries(
    site: &Site,
    key: &str,
    from: &str,
    mut see: impl FnMut(&str),
) -> Result<(), String> {
    let mut from = from.to_owned();
    loop {
        let page = site.tool(&["XRANGE", key, &from, "+", "COUNT", "2000"]).await?;
        page.lines().for_each(&mut see);
        let Some(last) = page.lines().rfind(|line| is_entry_id(line)) else { return Ok(()) };
        from = format!("({last}");
    }
}

fn is_entry_id(line: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    line.split_once('-').is_some_and(|(time, count)| number(time) && number(count))
}

/// The value on the line after a name.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().skip_while(|line| *line != name);
    lines.nth(1)?.parse().ok()
}

fn sum_of(text: &str, name: &str) -> u64 {
    values_of(text, name).filter_map(|value| value.parse::<u64>().ok()).sum()
}

/// The values on the lines after a name, wherever it stands.
fn values_of<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().zip(text.lines().skip(1));
    lines.filter(move |(line, _)| *line == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_answers_are_read() {
        let groups = "name\npool\npending\n2\nlag\n0\nname\nkeyed\npending\n3\nlag\n\n";
        assert_eq!((sum_of(groups, "pending"), sum_of(groups, "lag")), (5, 0));
        assert_eq!(field("length\n1\nentries-added\n77\n", "entries-added"), Some(77));
        assert!(is_entry_id("1732551234567-0") && !is_entry_id("application/octet-stream"));
    }
}
