//! The configuration as variables.

use std::num::NonZeroU16;

use messaging_core::driver::variables::{self, Certificates, invalid, number};
use messaging_core::duration::parse_duration;
use messaging_core::{Result, Secret};

use super::{Address, HaMode, Management, RabbitConfig, Tls, url};

/// Variables of the server's image that a client must not guess a meaning for.
const OF_THE_SERVER: [&str; 3] =
    ["RABBITMQ_ERLANG_COOKIE", "RABBITMQ_PROD_USER", "RABBITMQ_PROD_PASSWORD"];

/// The same, for the TLS of the server and of its management API.
const TLS_OF_THE_SERVER: [&str; 2] = ["RABBITMQ_SSL_", "RABBITMQ_MANAGEMENT_SSL_"];
const TLS_PARTS: [&str; 6] =
    ["CACERTFILE", "CERTFILE", "KEYFILE", "DEPTH", "FAIL_IF_NO_PEER_CERT", "VERIFY"];

/// Reads every variable of ours. Set to nothing is the same as unset.
pub(super) fn read(get: impl Fn(&str) -> Result<Option<String>>) -> Result<RabbitConfig> {
    let get = |name: &str| get(name).map(|value| value.filter(|text| !text.is_empty()));
    let of_tls = |prefix| TLS_PARTS.iter().map(move |part| format!("{prefix}{part}"));
    let refused = OF_THE_SERVER.iter().map(|name| (*name).to_owned());
    for name in refused.chain(TLS_OF_THE_SERVER.into_iter().flat_map(of_tls)) {
        if get(&name)?.is_some() {
            let accepted = "unset here; a client has RABBITMQ_USER, RABBITMQ_PASSWORD and \
                            RABBITMQ_TLS_CA, RABBITMQ_TLS_CERT, RABBITMQ_TLS_KEY";
            return Err(invalid(&name, "it configures the server", accepted));
        }
    }
    let share = "CONSUMER_RABBITMQ_PERCENT";
    if get(share)?.is_some() {
        return Err(invalid(share, "a group gets all of its messages here", "unset"));
    }
    expect(&get, "RABBITMQ_ENABLED", "this backend can't be chosen and switched off at once")?;
    expect(&get, "RABBITMQ_PUBLISHER_CONFIRM", "a publish without confirm may be lost unseen")?;
    let mut config = login(&get)?;
    nodes(&get, &mut config)?;
    config.tls = tls(&get, config.tls)?;
    if let Some(exchange) = get("RABBITMQ_EXCHANGE")? {
        config = config.with_exchange(&exchange)?;
    }
    if let Some(kind) = get("RABBITMQ_EXCHANGE_TYPE")? {
        config = config.with_exchange_type(&kind)?;
    }
    if let Some(durable) = flag(&get, "RABBITMQ_DURABLE")? {
        config.durable = durable;
    }
    if let Some(prefix) = get("RABBITMQ_PREFIX")? {
        config = config.with_prefix(&prefix)?;
    }
    if let Some(text) = get("RABBITMQ_CONSUMER_TIMEOUT")? {
        let name = "RABBITMQ_CONSUMER_TIMEOUT";
        config.consumer_timeout = parse_duration(&text)
            .ok()
            .filter(|timeout| timeout.as_secs() >= 1)
            .ok_or_else(|| invalid(name, "it is no duration from 1s", "30m, 1800s"))?;
    }
    config.prefetch =
        number::<NonZeroU16>(&get, "RABBITMQ_PREFETCH_COUNT", "a number from 1 to 65535")?;
    if let Some(heartbeat) = number::<u16>(&get, "RABBITMQ_HEARTBEAT", "2 to 60 seconds")? {
        config.heartbeat = heartbeat;
    }
    let port = number::<NonZeroU16>(&get, "RABBITMQ_MGMT_PORT", "a port from 1 to 65535")?;
    config.management = match get("RABBITMQ_MANAGEMENT_URL")? {
        Some(text) => Some(Management::read("RABBITMQ_MANAGEMENT_URL", &text, &config)?),
        None => port.and_then(|port| Management::beside(&config, port.get())),
    };
    config.check()?;
    Ok(config)
}

/// The first node and who we are to it.
fn login(get: &impl Fn(&str) -> Result<Option<String>>) -> Result<RabbitConfig> {
    if let Some(text) = get("RABBITMQ_URL")? {
        // The URL is complete: variables beside it would change parts of it unseen.
        for name in ["RABBITMQ_HOST", "RABBITMQ_PORT", "RABBITMQ_USER", "RABBITMQ_PASSWORD"] {
            if get(name)?.is_some() {
                return Err(invalid(name, "RABBITMQ_URL is set too", "only one of them"));
            }
        }
        if get("RABBITMQ_VHOST")?.is_some() {
            return Err(invalid("RABBITMQ_VHOST", "RABBITMQ_URL is set too", "only one of them"));
        }
        return url::read("RABBITMQ_URL", &text);
    }
    let mut config = RabbitConfig::default();
    let mut node = Address::new("localhost", Address::PORT);
    if let Some(host) = get("RABBITMQ_HOST")? {
        let reason = "it is no host";
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host };
        node = url::address(&bracketed, Address::PORT)
            .ok_or_else(|| invalid("RABBITMQ_HOST", reason, "a name or an address"))?;
    }
    if let Some(port) = number::<NonZeroU16>(get, "RABBITMQ_PORT", "a port from 1 to 65535")? {
        node.port = port.get();
    }
    config.nodes = vec![node];
    let either = |ours: &str, theirs: &str| Ok(get(ours)?.or(get(theirs)?));
    if let Some(user) = either("RABBITMQ_USER", "RABBITMQ_DEFAULT_USER")? {
        config.user = user;
    }
    if let Some(password) = either("RABBITMQ_PASSWORD", "RABBITMQ_DEFAULT_PASS")? {
        config.password = Secret::new(password);
    }
    if let Some(vhost) = either("RABBITMQ_VHOST", "RABBITMQ_DEFAULT_VHOST")? {
        config.vhost = vhost;
    }
    Ok(config)
}

/// `name@host[:port]`, separated by commas; a comma at the end is no entry. The name is that of the
/// Erlang node and says nothing to a client; what is left out is as the URL has it.
fn nodes(get: &impl Fn(&str) -> Result<Option<String>>, config: &mut RabbitConfig) -> Result<()> {
    const NAME: &str = "RABBITMQ_CLUSTER_NODES";
    if let Some(text) = get(NAME)? {
        let port = config.nodes.first().map_or(Address::PORT, |node| node.port);
        let host = |entry: &str| entry.split_once('@').map_or(entry, |(_, host)| host).to_owned();
        config.nodes = variables::list(&text, |entry| url::address(&host(entry), port))
            .ok_or_else(|| invalid(NAME, "it is no list of nodes", "name@host[:port],…"))?;
    }
    if let Some(mode) = get("RABBITMQ_HA_MODE")? {
        config.ha_mode = match mode.as_str() {
            "all" => HaMode::All,
            "none" => HaMode::None,
            _ => {
                let reason = "a quorum queue has no such mode; mirroring is gone";
                return Err(invalid("RABBITMQ_HA_MODE", reason, "all, none"));
            }
        };
    }
    Ok(())
}

fn tls(get: &impl Fn(&str) -> Result<Option<String>>, tls: Option<Tls>) -> Result<Option<Tls>> {
    let read = Certificates::read(get, "RABBITMQ", tls.is_some(), "with RABBITMQ_URL=amqps://…")?;
    Ok(tls.map(|tls| Tls { ca: read.ca.or(tls.ca), client: read.client.or(tls.client) }))
}

/// A switch that has to be on.
fn expect(get: &impl Fn(&str) -> Result<Option<String>>, name: &str, reason: &str) -> Result<()> {
    match flag(get, name)? {
        Some(false) => Err(invalid(name, reason, "true")),
        Some(true) | None => Ok(()),
    }
}

fn flag(get: &impl Fn(&str) -> Result<Option<String>>, name: &str) -> Result<Option<bool>> {
    let parse = |text: String| match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid(name, "it is no switch", "true, false")),
    };
    get(name)?.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<RabbitConfig> {
        read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        })
    }

    #[test]
    fn the_variables_of_the_original_system_are_enough() {
        let config = from(&[
            ("RABBITMQ_HOST", "rabbit.internal"),
            ("RABBITMQ_PORT", "5673"),
            ("RABBITMQ_USER", "helixagent"),
            ("RABBITMQ_PASSWORD", "p@ss"),
            ("RABBITMQ_VHOST", "helixagent"),
            ("RABBITMQ_PREFETCH_COUNT", "10"),
            ("RABBITMQ_PUBLISHER_CONFIRM", "true"),
            ("RABBITMQ_MGMT_PORT", "15673"),
        ])
        .unwrap();
        assert_eq!(config.address(), "rabbit.internal:5673/helixagent");
        assert_eq!((&*config.user, config.password.reveal()), ("helixagent", "p@ss"));
        assert_eq!(config.prefetch.map(NonZeroU16::get), Some(10));
        assert_eq!(config.management.unwrap().address.to_string(), "rabbit.internal:15673");
        let image = [("RABBITMQ_DEFAULT_USER", "u"), ("RABBITMQ_DEFAULT_PASS", "p")];
        let config = from(&image).unwrap();
        assert_eq!((&*config.user, config.password.reveal()), ("u", "p"));
        assert_eq!(from(&[]).unwrap().address(), "localhost:5672/");
    }

    #[test]
    fn the_seed_names_an_exchange_and_a_cluster() {
        let config = from(&[
            ("RABBITMQ_URL", "amqp://user:pass@localhost:5673/"),
            ("RABBITMQ_EXCHANGE", "agents"),
            ("RABBITMQ_CLUSTER_NODES", "rabbit@node1,rabbit@node2, rabbit@node3:7000,"),
            ("RABBITMQ_HA_MODE", "all"),
            ("RABBITMQ_CONSUMER_TIMEOUT", "10m"),
            ("RABBITMQ_MANAGEMENT_URL", "https://m%40:s@api.internal/rabbit/"),
        ])
        .unwrap();
        assert_eq!(config.address(), "node1:5673,node2:5673,node3:7000/");
        assert_eq!((&*config.exchange, &*config.prefix), ("agents", "agents"));
        assert_eq!(config.ha_mode, HaMode::All);
        assert_eq!(config.consumer_timeout, Duration::from_secs(600));
        let management = config.management.unwrap();
        assert_eq!(management.address.to_string(), "api.internal:443");
        assert_eq!((&*management.user, &*management.path), ("m@", "/rabbit"));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_shown() {
        for (variables, name) in [
            (&[("RABBITMQ_PORT", "hunter2")][..], "RABBITMQ_PORT"),
            (&[("RABBITMQ_URL", "hunter2://x")], "RABBITMQ_URL"),
            (&[("RABBITMQ_URL", "amqp://h"), ("RABBITMQ_HOST", "hunter2")], "RABBITMQ_HOST"),
            (&[("RABBITMQ_URL", "amqp://h"), ("RABBITMQ_VHOST", "hunter2")], "RABBITMQ_VHOST"),
            (&[("RABBITMQ_HOST", "hunter2/x")], "RABBITMQ_HOST"),
            (&[("RABBITMQ_CLUSTER_NODES", ",")], "RABBITMQ_CLUSTER_NODES"),
            (&[("RABBITMQ_HA_MODE", "exactly")], "RABBITMQ_HA_MODE"),
            (&[("RABBITMQ_TLS_CERT", "hunter2")], "RABBITMQ_TLS_KEY"),
            (&[("RABBITMQ_TLS_CA", "hunter2")], "amqps://"),
            (&[("RABBITMQ_EXCHANGE", "amq.topic")], "exchange \"amq.topic\""),
            (&[("RABBITMQ_EXCHANGE_TYPE", "direct")], "exchange type \"direct\""),
            (&[("RABBITMQ_PUBLISHER_CONFIRM", "false")], "RABBITMQ_PUBLISHER_CONFIRM"),
            (&[("RABBITMQ_ENABLED", "false")], "RABBITMQ_ENABLED"),
            (&[("RABBITMQ_CONSUMER_TIMEOUT", "0s")], "RABBITMQ_CONSUMER_TIMEOUT"),
            (&[("RABBITMQ_PREFETCH_COUNT", "0")], "RABBITMQ_PREFETCH_COUNT"),
            (&[("RABBITMQ_HEARTBEAT", "1")], "heartbeat"),
            (&[("RABBITMQ_ERLANG_COOKIE", "hunter2")], "RABBITMQ_ERLANG_COOKIE"),
            (&[("RABBITMQ_PROD_PASSWORD", "hunter2")], "RABBITMQ_PROD_PASSWORD"),
            (&[("RABBITMQ_SSL_CERTFILE", "hunter2")], "RABBITMQ_SSL_CERTFILE"),
            (&[("RABBITMQ_SSL_DEPTH", "hunter2")], "RABBITMQ_SSL_DEPTH"),
            (&[("CONSUMER_RABBITMQ_PERCENT", "hunter2")], "CONSUMER_RABBITMQ_PERCENT"),
            (
                &[("RABBITMQ_SSL_FAIL_IF_NO_PEER_CERT", "hunter2")],
                "RABBITMQ_SSL_FAIL_IF_NO_PEER_CERT",
            ),
            (&[("RABBITMQ_MANAGEMENT_SSL_KEYFILE", "hunter2")], "RABBITMQ_MANAGEMENT_SSL_KEYFILE"),
            (&[("RABBITMQ_MANAGEMENT_URL", "hunter2")], "RABBITMQ_MANAGEMENT_URL"),
        ] {
            let error = from(variables).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
