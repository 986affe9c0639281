//! The configuration as variables.

use std::str::FromStr;
use std::time::Duration;

use messaging_core::driver::variables::{self, Certificates, invalid};
use messaging_core::duration::parse_duration;
use messaging_core::{Result, Secret};

use super::{Address, Compression, KafkaConfig, Login, Mechanism, OutOfRange, Tls, WritePath};

/// Variables that ask for what is not done here, and what does it instead.
const REFUSED: [(&str, &str); 11] = [
    ("KAFKA_BROKER", "KAFKA_BROKERS, a list"),
    ("KAFKA_PORT", "KAFKA_BROKERS; this one is of a container"),
    ("KAFKA_INTERNAL_PORT", "KAFKA_BROKERS; this one is of a container"),
    ("KAFKA_EXTERNAL_HOST", "KAFKA_BROKERS; this one is of a container"),
    ("KAFKA_UI_PORT", "unset; it is of a container"),
    ("KAFKA_SSL_PASSWORD", "KAFKA_TLS_KEY, a file; this one is of a container"),
    ("KAFKA_PASSWORD", "KAFKA_SASL_PASSWORD"),
    ("KAFKA_GROUP_ID", "unset; a worker or subscription names its group"),
    ("KAFKA_CONSUMER_GROUP", "unset; a worker or subscription names its group"),
    ("KAFKA_ASYNC", "unset; enqueue does not wait, and its outcome can be awaited"),
    ("KAFKA_AUTO_OFFSET_RESET", "unset; a subscription says where a new group starts"),
];

/// Reads every variable of ours. Set to nothing is the same as unset.
pub(super) fn read(get: impl Fn(&str) -> Result<Option<String>>) -> Result<KafkaConfig> {
    let get = |name: &str| get(name).map(|value| value.filter(|text| !text.is_empty()));
    for (name, accepted) in REFUSED {
        if get(name)?.is_some() {
            return Err(invalid(name, "it has no meaning here", accepted));
        }
    }
    only(
        &get,
        "KAFKA_ENABLED",
        &["true"],
        "this backend can't be chosen and switched off at once",
    )?;
    only(&get, "KAFKA_REQUIRED_ACKS", &["all", "-1"], "a publish waits for all in-sync replicas")?;
    let reason = "what is settled is always committed, and nothing else";
    only(&get, "KAFKA_AUTO_COMMIT", &["true"], reason)?;
    let mut config = KafkaConfig::default();
    if let Some(text) = get("KAFKA_BROKERS")? {
        config.servers = list("KAFKA_BROKERS", &text)?;
    }
    if let Some(client_id) = get("KAFKA_CLIENT_ID")? {
        config.client_id = name("KAFKA_CLIENT_ID", client_id)?;
    }
    if let Some(prefix) = get("KAFKA_TOPIC_PREFIX")? {
        config = config.with_prefix(&prefix)?;
    }
    config.tls = tls(&get)?;
    config.login = login(&get)?;
    let copies = "a number from 1";
    config.replication = number::<u16>(&get, "KAFKA_REPLICATION_FACTOR", 1, copies)?;
    config.min_insync_replicas = number::<u16>(&get, "KAFKA_MIN_INSYNC_REPLICAS", 1, copies)?;
    if let (Some(copies), Some(least)) = (config.replication, config.min_insync_replicas)
        && least > copies
    {
        let reason = "there are never so many replicas";
        return Err(invalid("KAFKA_MIN_INSYNC_REPLICAS", reason, "at most the replication factor"));
    }
    if let Some(text) = get("KAFKA_COMPRESSION")? {
        config.compression = compression(&text)?;
    }
    config.write_path = match get("KAFKA_WRITE_PATH")?.as_deref() {
        None | Some("direct") => WritePath::Direct,
        Some("rskafka") => WritePath::Rskafka,
        Some(_) => return Err(invalid("KAFKA_WRITE_PATH", "it is unknown", "direct, rskafka")),
    };
    config.out_of_range = match get("KAFKA_OUT_OF_RANGE")?.as_deref() {
        None | Some("earliest") => OutOfRange::Earliest,
        Some("fail") => OutOfRange::Fail,
        Some(_) => return Err(invalid("KAFKA_OUT_OF_RANGE", "it is unknown", "earliest, fail")),
    };
    if let Some(messages) = number(&get, "KAFKA_BATCH_SIZE", 1, "a number of messages from 1")? {
        config.batch.messages = messages;
    }
    let millis = |name: &str, least| {
        let found = number::<u64>(&get, name, least, "a number of milliseconds")?;
        Ok(found.map(Duration::from_millis))
    };
    if let Some(linger) = millis("KAFKA_LINGER_MS", 0)? {
        config.batch.linger = linger;
    }
    if let Some(timeout) = millis("KAFKA_SESSION_TIMEOUT_MS", 1)? {
        config.session_timeout = timeout;
    }
    if let Some(interval) = millis("KAFKA_HEARTBEAT_INTERVAL_MS", 1)? {
        config.heartbeat = interval;
    }
    if let Some(time) = millis("KAFKA_MAX_POLL_INTERVAL_MS", 1_000)? {
        config.max_in_hand = time;
    }
    if let Some(text) = get("KAFKA_MAX_WAIT_TIME")? {
        config.max_wait = duration("KAFKA_MAX_WAIT_TIME", &text)?;
    }
    if let Some(text) = get("KAFKA_COMMIT_INTERVAL")? {
        config.commit_interval = duration("KAFKA_COMMIT_INTERVAL", &text)?;
    }
    if let Some(instance) = get("KAFKA_GROUP_INSTANCE_ID")? {
        config.instance = Some(name("KAFKA_GROUP_INSTANCE_ID", instance)?);
    }
    config.check()?;
    Ok(config)
}

/// Refuses every value but the ones that say what is done anyway.
fn only(
    get: &impl Fn(&str) -> Result<Option<String>>,
    name: &str,
    accepted: &[&str],
    reason: &str,
) -> Result<()> {
    match get(name)? {
        Some(value) if !accepted.contains(&value.as_str()) => {
            Err(invalid(name, reason, &accepted.join(", ")))
        }
        _ => Ok(()),
    }
}

fn list(name: &str, text: &str) -> Result<Vec<Address>> {
    variables::list(text, |entry| entry.parse().ok())
        .ok_or_else(|| invalid(name, "it is no list of addresses", "host:port,host:port"))
}

/// A name as the broker shows it.
fn name(variable: &str, value: String) -> Result<String> {
    let legal = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if legal && value.len() <= 249 {
        return Ok(value);
    }
    Err(invalid(variable, "it has an illegal form", "[A-Za-z0-9._-]{1,249}"))
}

fn tls(get: &impl Fn(&str) -> Result<Option<String>>) -> Result<Option<Tls>> {
    let is_on = match get("KAFKA_TLS")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(invalid("KAFKA_TLS", "it is unknown", "true, false")),
    };
    let Certificates { ca, client, .. } =
        Certificates::read(get, "KAFKA", is_on, "with KAFKA_TLS=true")?;
    Ok(is_on.then_some(Tls { ca, client }))
}

fn login(get: &impl Fn(&str) -> Result<Option<String>>) -> Result<Option<Login>> {
    let accepted = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512";
    let mechanism = match get("KAFKA_SASL_MECHANISM")?.as_deref() {
        None => None,
        Some("PLAIN") => Some(Mechanism::Plain),
        Some("SCRAM-SHA-256") => Some(Mechanism::ScramSha256),
        Some("SCRAM-SHA-512") => Some(Mechanism::ScramSha512),
        Some(_) => return Err(invalid("KAFKA_SASL_MECHANISM", "it is unknown", accepted)),
    };
    match (mechanism, get("KAFKA_SASL_USERNAME")?, get("KAFKA_SASL_PASSWORD")?) {
        (None, None, None) => Ok(None),
        (mechanism, Some(user), Some(password)) => {
            let mechanism = mechanism.unwrap_or(Mechanism::ScramSha512);
            Ok(Some(Login { mechanism, user, password: Secret::new(password) }))
        }
        _ => {
            let names = "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD";
            Err(invalid(names, "a user and a password belong together", "both or none"))
        }
    }
}

fn compression(text: &str) -> Result<Compression> {
    Ok(match text {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => {
            let accepted = "none, gzip, snappy, lz4, zstd";
            return Err(invalid("KAFKA_COMPRESSION", "it is unknown", accepted));
        }
    })
}

fn duration(name: &str, text: &str) -> Result<Duration> {
    let found = parse_duration(text).ok().filter(|duration| !duration.is_zero());
    found.ok_or_else(|| invalid(name, "it is no duration", "500ms, 5s, 1m"))
}

fn number<T: FromStr + PartialOrd + Copy>(
    get: &impl Fn(&str) -> Result<Option<String>>,
    name: &str,
    least: T,
    accepted: &str,
) -> Result<Option<T>> {
    let Some(text) = get(name)? else { return Ok(None) };
    let found = text.parse().ok().filter(|number| *number >= least);
    found.map(Some).ok_or_else(|| invalid(name, "it is no such number", accepted))
}

#[cfg(test)]
mod tests {
    use messaging_core::ErrorKind;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<KafkaConfig> {
        read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        })
    }

    #[test]
    fn the_original_systems_variables_are_honoured() {
        let config = from(&[
            ("KAFKA_BROKERS", "a:9092, b,[::1]:9093,"),
            ("KAFKA_TOPIC_PREFIX", "helix.test"),
            ("KAFKA_REPLICATION_FACTOR", "3"),
            ("KAFKA_MIN_INSYNC_REPLICAS", "2"),
            ("KAFKA_REQUIRED_ACKS", "all"),
            ("KAFKA_COMPRESSION", "lz4"),
            ("KAFKA_SESSION_TIMEOUT_MS", "30000"),
            ("KAFKA_HEARTBEAT_INTERVAL_MS", "10000"),
            ("KAFKA_MAX_WAIT_TIME", "500ms"),
            ("KAFKA_BATCH_SIZE", "100"),
            ("KAFKA_LINGER_MS", "10"),
            ("KAFKA_SASL_USERNAME", "u"),
            ("KAFKA_SASL_PASSWORD", "p"),
        ])
        .unwrap();
        assert_eq!(config.address(), "a:9092,b:9092,[::1]:9093");
        assert_eq!(config.prefix, "helix.test");
        assert_eq!((config.replication, config.min_insync_replicas), (Some(3), Some(2)));
        assert_eq!(config.compression, Compression::Lz4);
        assert_eq!(config.batch.messages, 100);
        assert_eq!(config.batch.linger, Duration::from_millis(10));
        assert_eq!(config.login.unwrap().mechanism, Mechanism::ScramSha512);
        assert_eq!(from(&[]).unwrap().address(), "localhost:9092");
    }

    #[test]
    fn what_has_another_meaning_or_none_is_refused_by_name() {
        for (name, value) in [
            ("KAFKA_BROKERS", "http://a"),
            ("KAFKA_BROKERS", ","),
            ("KAFKA_BROKERS", "::1"),
            ("KAFKA_BROKERS", "a:0"),
            ("KAFKA_BROKER", "a"),
            ("KAFKA_REQUIRED_ACKS", "1"),
            ("KAFKA_AUTO_COMMIT", "false"),
            ("KAFKA_ENABLED", "false"),
            ("KAFKA_PORT", "9092"),
            ("KAFKA_SSL_PASSWORD", "secret"),
            ("KAFKA_ASYNC", "true"),
            ("KAFKA_GROUP_ID", "helixagent-group"),
            ("KAFKA_CONSUMER_GROUP", "g"),
            ("KAFKA_PASSWORD", "secret"),
            ("KAFKA_REPLICATION_FACTOR", "0"),
            ("KAFKA_MIN_INSYNC_REPLICAS", "many"),
            ("KAFKA_COMPRESSION", "brotli"),
            ("KAFKA_MAX_WAIT_TIME", "500"),
            ("KAFKA_HEARTBEAT_INTERVAL_MS", "30000"),
            ("KAFKA_SASL_MECHANISM", "GSSAPI"),
            ("KAFKA_SASL_PASSWORD", "secret"),
            ("KAFKA_TLS_CA", "/ca.pem"),
            ("KAFKA_TLS", "maybe"),
            ("KAFKA_WRITE_PATH", "librdkafka"),
            ("KAFKA_OUT_OF_RANGE", "latest"),
        ] {
            let error = from(&[(name, value)]).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{name}");
            assert!(error.to_string().contains(name), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_goes_readable_only_to_this_machine() {
        let login = [
            ("KAFKA_SASL_MECHANISM", "PLAIN"),
            ("KAFKA_SASL_USERNAME", "u"),
            ("KAFKA_SASL_PASSWORD", "hunter2"),
        ];
        let with = |more: &[(&'static str, &'static str)]| from(&[&login, more].concat());
        assert!(with(&[("KAFKA_BROKERS", "127.0.0.1:1,[::1]:2,localhost")]).is_ok());
        assert!(with(&[("KAFKA_BROKERS", "a:1"), ("KAFKA_TLS", "true")]).is_ok());
        // The cluster may have brokers elsewhere.
        let known = with(&[]).unwrap().login.unwrap();
        assert!(known.check_readable_at(&"a:1".parse().unwrap()).is_err());
        let error = with(&[("KAFKA_BROKERS", "a:1")]).unwrap_err();
        assert!(error.to_string().contains("KAFKA_SASL_MECHANISM"), "{error}");
        let shown = format!("{:?}", with(&[]).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
