//! Where the management API is.

use messaging_core::{Result, Secret};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{Address, RabbitConfig, invalid};

/// Where the management API is, and its login.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Management {
    /// Whether it speaks TLS; the certificates are those of [`RabbitConfig::tls`].
    pub tls: bool,
    /// Where it listens.
    pub address: Address,
    /// What its paths begin with, without a slash at the end.
    pub path: String,
    /// The user; that of [`RabbitConfig::user`] unless the URL has one.
    pub user: String,
    /// The user's password.
    pub password: Secret,
}

impl Management {
    /// Where it listens unless told otherwise.
    pub const PORT: u16 = 15_672;

    /// Reads a URL; what it does not say is as in `config`.
    pub(super) fn read(name: &str, text: &str, config: &RabbitConfig) -> Result<Self> {
        let accepted = "http://[user[:password]@]host[:port][/path], or https:// for TLS";
        let wrong = |reason: &str| invalid(name, reason, accepted);
        let url = Url::parse(text).map_err(|_| wrong("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("its scheme is unknown"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
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
        let (user, password) = match url.username() {
            "" => (config.user.clone(), config.password.clone()),
            user => {
                let password = decoded(url.password().unwrap_or_default())?;
                (decoded(user)?, Secret::new(password))
            }
        };
        let port = url.port_or_known_default().unwrap_or(Self::PORT);
        Ok(Self {
            tls: url.scheme() == "https",
            address: Address::new(host, port),
            path: url.path().trim_end_matches('/').to_owned(),
            user,
            password,
        })
    }

    /// The API beside the first node, at a port of its own.
    pub(super) fn beside(config: &RabbitConfig, port: u16) -> Option<Self> {
        let node = config.nodes.first()?;
        Some(Self {
            tls: false,
            address: Address::new(node.host.clone(), port),
            path: String::new(),
            user: config.user.clone(),
            password: config.password.clone(),
        })
    }
}
