//! The configuration as variables.

use messaging_core::driver::variables::{self, Certificates, invalid, number};
use messaging_core::{Result, Secret};

use super::{Address, Format, RedisConfig, Servers, Tls, url};

/// Reads every variable of ours. Set to nothing is the same as unset.
pub(super) fn read(get: impl Fn(&str) -> Result<Option<String>>) -> Result<RedisConfig> {
    let get = |name: &str| get(name).map(|value| value.filter(|text| !text.is_empty()));
    let mut config = match get("REDIS_URL")? {
        Some(text) => url::read(&text)?,
        None => RedisConfig::default(),
    };
    if let Servers::Node(address) = &mut config.servers {
        if let Some(host) = get("REDIS_HOST")? {
            address.host = host;
        }
        if let Some(port) = number(&get, "REDIS_PORT", "a port from 1 to 65535")? {
            address.port = port;
        }
    }
    if let Some(user) = get("REDIS_USER")? {
        config.user = Some(user);
    }
    if let Some(password) = get("REDIS_PASSWORD")? {
        config.password = Some(Secret::new(password));
    }
    if let Some(database) = number::<u32>(&get, "REDIS_DB", "a number from 0")? {
        config.database = i64::from(database);
    }
    if let Some(servers) = servers(&get)? {
        config.servers = servers;
    }
    if matches!(config.servers, Servers::Cluster(_)) && config.database != 0 {
        return Err(invalid("REDIS_DB", "a cluster has only database 0", "0"));
    }
    config.tls = tls(&get, config.tls)?;
    if let Some(prefix) = get("REDIS_PREFIX")? {
        config = config.with_prefix(&prefix)?;
    }
    if let Some(format) = get("REDIS_PUBSUB_FORMAT")? {
        config.format = match format.as_str() {
            "auto" => Format::Auto,
            "envelope" => Format::Envelope,
            "raw" => Format::Raw,
            _ => {
                return Err(invalid("REDIS_PUBSUB_FORMAT", "it is unknown", "auto, envelope, raw"));
            }
        };
    }
    if let Some(replicas) = number::<u8>(&get, "REDIS_WAIT_REPLICAS", "a number from 0 to 255")? {
        config.wait_replicas = u32::from(replicas);
        if replicas > 0 && matches!(config.servers, Servers::Cluster(_)) {
            let reason = "a cluster can't be asked for the replicas of one message";
            return Err(invalid("REDIS_WAIT_REPLICAS", reason, "0"));
        }
    }
    Ok(config)
}

fn servers(get: &impl Fn(&str) -> Result<Option<String>>) -> Result<Option<Servers>> {
    let sentinels = get("REDIS_SENTINELS")?;
    let nodes = get("REDIS_CLUSTER_NODES")?;
    match (sentinels, nodes) {
        (Some(_), Some(_)) => {
            Err(invalid("REDIS_CLUSTER_NODES", "REDIS_SENTINELS is set too", "only one of them"))
        }
        (Some(sentinels), None) => {
            let sentinels = list("REDIS_SENTINELS", &sentinels, 26_379)?;
            let master = get("REDIS_SENTINEL_MASTER")?.unwrap_or_else(|| "mymaster".to_owned());
            Ok(Some(Servers::Sentinel { sentinels, master }))
        }
        (None, Some(nodes)) => {
            let nodes = list("REDIS_CLUSTER_NODES", &nodes, Address::PORT)?;
            Ok(Some(Servers::Cluster(nodes)))
        }
        (None, None) => Ok(None),
    }
}

fn list(name: &str, text: &str, port: u16) -> Result<Vec<Address>> {
    variables::list(text, |entry| url::address(entry, port))
        .ok_or_else(|| invalid(name, "it is no list of addresses", "host:port,host:port"))
}

fn tls(get: &impl Fn(&str) -> Result<Option<String>>, tls: Option<Tls>) -> Result<Option<Tls>> {
    let read = Certificates::read(get, "REDIS", tls.is_some(), "with REDIS_URL=rediss://…")?;
    Ok(tls.map(|tls| Tls { ca: read.ca.or(tls.ca), client: read.client.or(tls.client) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<RedisConfig> {
        read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        })
    }

    #[test]
    fn the_three_variables_of_the_original_system_are_enough() {
        let config = from(&[
            ("REDIS_HOST", "redis.internal"),
            ("REDIS_PORT", "6380"),
            ("REDIS_PASSWORD", "p@ss"),
        ])
        .unwrap();
        assert_eq!(config.address(), "redis.internal:6380");
        assert_eq!(config.password.unwrap().reveal(), "p@ss");
        assert_eq!(from(&[]).unwrap().address(), "localhost:6379");
    }

    #[test]
    fn sentinel_and_cluster_are_lists_of_addresses() {
        let config = from(&[("REDIS_SENTINELS", "a:1, [::1]:2,"), ("REDIS_SENTINEL_MASTER", "m")]);
        assert_eq!(config.unwrap().address(), "m of a:1,[::1]:2");
        let config = from(&[("REDIS_CLUSTER_NODES", "a,b:7001")]).unwrap();
        assert_eq!(config.address(), "cluster a:6379,b:7001");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_shown() {
        for (variables, name) in [
            (&[("REDIS_PORT", "hunter2")][..], "REDIS_PORT"),
            (&[("REDIS_URL", "hunter2://x")], "REDIS_URL"),
            (&[("REDIS_DB", "-1")], "REDIS_DB"),
            (&[("REDIS_CLUSTER_NODES", ",")], "REDIS_CLUSTER_NODES"),
            (&[("REDIS_CLUSTER_NODES", "a"), ("REDIS_DB", "2")], "REDIS_DB"),
            (&[("REDIS_CLUSTER_NODES", "a"), ("REDIS_SENTINELS", "b")], "REDIS_SENTINELS"),
            (&[("REDIS_TLS_CERT", "hunter2")], "REDIS_TLS_KEY"),
            (&[("REDIS_TLS_CA", "hunter2")], "rediss://"),
            (&[("REDIS_PREFIX", "hunter2*")], "prefix"),
            (&[("REDIS_PUBSUB_FORMAT", "hunter2")], "REDIS_PUBSUB_FORMAT"),
        ] {
            let error = from(variables).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
