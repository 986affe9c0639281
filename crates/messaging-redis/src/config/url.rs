//! `redis://user:password@host:port/database`.

use messaging_core::{Result, Secret};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{Address, RedisConfig, Servers, Tls, invalid};

const ACCEPTED: &str = "redis://[user[:password]@]host[:port][/database], or rediss:// for TLS";

/// Reads a URL. What would switch the check of certificates off is refused.
pub(super) fn read(text: &str) -> Result<RedisConfig> {
    let wrong = |reason| invalid("REDIS_URL", reason, ACCEPTED);
    let url = Url::parse(text).map_err(|_| wrong("it is no URL"))?;
    let tls = match url.scheme() {
        "redis" => None,
        "rediss" => Some(Tls::default()),
        _ => return Err(wrong("its scheme is unknown")),
    };
    if url.fragment().is_some() {
        return Err(wrong("it has a fragment, such as #insecure, which is never accepted"));
    }
    if url.query().is_some() {
        return Err(wrong("it has a query"));
    }
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => return Err(wrong("it has no host")),
    };
    let decoded = |part: &str| {
        let text = percent_decode_str(part).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|_| wrong("a part of it is not UTF-8"))
    };
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number.parse::<u32>().map_err(|_| wrong("its database is no number"))?,
    };
    let user = Some(url.username()).filter(|user| !user.is_empty());
    Ok(RedisConfig {
        servers: Servers::Node(Address::new(host, url.port().unwrap_or(Address::PORT))),
        user: user.map(decoded).transpose()?,
        password: url.password().map(decoded).transpose()?.map(Secret::new),
        database: database.into(),
        tls,
        ..RedisConfig::default()
    })
}

/// Reads `host`, `host:port` or `[v6]:port`.
pub(super) fn address(text: &str, default: u16) -> Option<Address> {
    let url = Url::parse(&format!("redis://{text}")).ok()?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    let host = match url.host().filter(|_| plain)? {
        Host::Ipv6(address) => address.to_string(),
        host => host.to_string(),
    };
    Some(Address::new(host, url.port().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read_and_decoded_once() {
        let config = read("rediss://us%40er:p%2525@[::1]:7000/3").unwrap();
        assert_eq!(config.address(), "[::1]:7000");
        assert_eq!(config.user.as_deref(), Some("us@er"));
        assert_eq!(config.password.unwrap().reveal(), "p%25");
        assert_eq!((config.database, config.tls), (3, Some(Tls::default())));
    }

    #[test]
    fn what_could_weaken_tls_is_refused() {
        for text in ["rediss://h/#insecure", "rediss://h/?verify=none", "http://h", "redis:"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
