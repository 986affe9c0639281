//! `amqp://user:password@host:port,host:port/vhost?heartbeat=5`, read by ourselves: the client
//! library neither decodes `%` escapes nor survives a query item without `=`.

use std::time::Duration;

use messaging_core::{Result, Secret};
use percent_encoding::percent_decode_str;
use url::Host;

use super::{Address, RabbitConfig, Tls, invalid};

const ACCEPTED: &str = "amqp://[user[:password]@]host[:port][,host[:port]…][/vhost]\
                        [?heartbeat=seconds&connection_timeout=milliseconds], or amqps:// for TLS";

/// Reads a URL. Every part is percent-decoded once; an empty path, `/` and `/%2f` are the virtual
/// host `/`. What would switch the check of certificates off is refused.
pub(super) fn read(name: &str, text: &str) -> Result<RabbitConfig> {
    let wrong = |reason: &str| invalid(name, reason, ACCEPTED);
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it is no URL"))?;
    let (tls, port) = match scheme.to_ascii_lowercase().as_str() {
        "amqp" => (None, Address::PORT),
        "amqps" => (Some(Tls::default()), Address::TLS_PORT),
        _ => return Err(wrong("its scheme is unknown")),
    };
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(wrong("it has a space or a control character"));
    }
    if rest.contains('#') {
        return Err(wrong("it has a fragment, such as #insecure, which is never accepted"));
    }
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) =
        authority.rsplit_once('@').map_or((None, authority), |(a, b)| (Some(a), b));
    let decoded = |part: &str| {
        let text = percent_decode_str(part).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|_| wrong("a part of it is not UTF-8"))
    };
    let mut config = RabbitConfig { tls, ..RabbitConfig::default() };
    if let Some(login) = login {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        if !user.is_empty() {
            config.user = decoded(user)?;
            config.password = Secret::new(decoded(password)?);
        } else if !password.is_empty() {
            return Err(wrong("it has a password without a user"));
        }
    }
    let nodes: Option<Vec<Address>> = hosts.split(',').map(|host| address(host, port)).collect();
    config.nodes = nodes.ok_or_else(|| wrong("it has no host, or one of an illegal form"))?;
    if path.contains('/') {
        return Err(wrong("its path has two parts; a / in a virtual host is written %2f"));
    }
    if !path.is_empty() {
        config.vhost = decoded(path)?;
    }
    for item in query.unwrap_or_default().split('&').filter(|item| !item.is_empty()) {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        match (key, value.parse::<u32>()) {
            ("heartbeat", Ok(seconds @ 2..=60)) => config.heartbeat = seconds as u16,
            ("heartbeat", _) => return Err(wrong("its heartbeat is not 2 to 60 seconds")),
            ("connection_timeout", Ok(millis @ 1..)) => {
                config.timeout = Duration::from_millis(millis.into());
            }
            ("connection_timeout", _) => return Err(wrong("its connection_timeout is no number")),
            _ => return Err(wrong("its query has an unknown name")),
        }
    }
    Ok(config)
}

/// Reads `host`, `host:port` or `[v6]:port`.
pub(super) fn address(text: &str, default: u16) -> Option<Address> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok().filter(|&p| p != 0)?),
        _ => (text, default),
    };
    let host = match Host::parse(host).ok()? {
        Host::Ipv6(address) => address.to_string(),
        host => host.to_string(),
    };
    Some(Address::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_decoded_once() {
        // Address, user, password, virtual host.
        for (text, address, user, password, vhost) in [
            ("amqp://user:pass@localhost:5672/", "localhost:5672", "user", "pass", "/"),
            ("amqp://localhost:5672/", "localhost:5672", "guest", "guest", "/"),
            ("amqp://localhost", "localhost:5672", "guest", "guest", "/"),
            ("AMQP://localhost/%2f", "localhost:5672", "guest", "guest", "/"),
            ("amqp://localhost/%2F", "localhost:5672", "guest", "guest", "/"),
            ("amqp://u:p@h/v%2fh%25", "h:5672", "u", "p", "v/h%"),
            ("amqp://us%40er:p%2525%3a@h/v", "h:5672", "us@er", "p%25:", "v"),
            ("amqp://u:p@ss@h/v", "h:5672", "u", "p@ss", "v"),
            ("amqps://u:p@[::1]/v", "[::1]:5671", "u", "p", "v"),
            ("amqp://u:@a:1,[::1]:2,b/", "a:1,[::1]:2,b:5672", "u", "", "/"),
        ] {
            let config = read("RABBITMQ_URL", text).unwrap();
            let nodes: Vec<String> = config.nodes.iter().map(ToString::to_string).collect();
            assert_eq!(nodes.join(","), address, "{text}");
            assert_eq!((&*config.user, config.password.reveal()), (user, password), "{text}");
            assert_eq!(config.vhost, vhost, "{text}");
            assert_eq!(config.tls.is_some(), text.starts_with("amqps"), "{text}");
        }
        let config = read("RABBITMQ_URL", "amqp://h?heartbeat=30&connection_timeout=1500").unwrap();
        assert_eq!((config.heartbeat, config.timeout), (30, Duration::from_millis(1_500)));
    }

    #[test]
    fn what_is_wrong_or_weakens_tls_is_refused_without_the_password() {
        for text in [
            "hunter2",
            "http://u:hunter2@h",
            "amqp://",
            "amqp://u:hunter2@",
            "amqp://:hunter2@h",
            "amqp://u:hunter2@h:0",
            "amqp://u:hunter2@h:70000",
            "amqp://u:hunter2@h,,i",
            "amqp://u:hunter2@h/a/b",
            "amqp://u:hunter2@h//",
            "amqp://u:%ff@hunter2",
            "amqp://u:hunter2@h ",
            "amqps://u:hunter2@h/#insecure",
            "amqps://u:hunter2@h/?verify=verify_none",
            "amqp://u:hunter2@h/?heartbeat",
            "amqp://u:hunter2@h/?heartbeat=1",
            "amqp://u:hunter2@h/?connection_timeout=soon",
        ] {
            let error = read("RABBITMQ_URL", text).unwrap_err().to_string();
            assert!(error.contains("RABBITMQ_URL") && error.contains("amqp://["), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
