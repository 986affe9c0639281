//! The management API: what AMQP has no answer to.
//!
//! Names of queues, exchanges and bindings are as of now; counts are those of the server's last
//! statistics, up to ten seconds old.

mod http;
mod objects;

use std::fmt;

use bytes::Bytes;
use hyper::Method;
use messaging_core::error::excerpt;
use messaging_core::{Error, ErrorKind, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use self::http::{Answer, Http};
pub(crate) use self::objects::{Binding, Connection, Exchange, Node, Overview, Queue};
use crate::config::RabbitConfig;

/// What is said where it is needed and not configured.
const NEEDED: &str = "needs the management API: set RABBITMQ_MANAGEMENT_URL to \
                      http://user:password@host:15672";

/// The management API, for one virtual host.
pub(crate) struct Api {
    http: Http,
    vhost: String,
}

impl Api {
    /// The API that is configured, if one is.
    ///
    /// # Errors
    /// When the certificates can't be read.
    pub(crate) fn new(config: &RabbitConfig) -> Result<Option<Self>> {
        let Some(management) = &config.management else { return Ok(None) };
        let http = Http::new(management, config)?;
        Ok(Some(Self { http, vhost: encoded(&config.vhost) }))
    }

    /// The server's version and that of its management plugin.
    pub(crate) async fn overview(&self) -> Result<Overview> {
        self.get("overview").await
    }

    /// The nodes of the cluster.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>> {
        self.get("nodes").await
    }

    /// The exchanges of the virtual host.
    pub(crate) async fn exchanges(&self) -> Result<Vec<Exchange>> {
        self.get(&format!("exchanges/{}?columns=name,type,durable", self.vhost)).await
    }

    /// The queues of the virtual host.
    pub(crate) async fn queues(&self) -> Result<Vec<Queue>> {
        self.get(&format!("queues/{}?columns={}", self.vhost, Queue::COLUMNS)).await
    }

    /// The bindings of the virtual host from exchanges to queues.
    pub(crate) async fn bindings(&self) -> Result<Vec<Binding>> {
        let mut all: Vec<Binding> = self.get(&format!("bindings/{}", self.vhost)).await?;
        all.retain(|binding| binding.destination_type == "queue" && !binding.source.is_empty());
        Ok(all)
    }

    /// The connections to the virtual host.
    pub(crate) async fn connections(&self) -> Result<Vec<Connection>> {
        self.get(&format!("vhosts/{}/connections?columns=state", self.vhost)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.http.call(Method::GET, path).await?;
        let body = self.checked(answer)?;
        serde_json::from_slice(&body).map_err(|error| {
            let text = format!("{} does not answer as RabbitMQ's management API", self.http);
            Error::new(ErrorKind::Unavailable, text).with_source(error)
        })
    }

    fn checked(&self, answer: Answer) -> Result<Bytes> {
        let (kind, text) = match answer.status {
            200..300 => return Ok(answer.body),
            401 | 403 => (ErrorKind::Denied, "refuses these credentials, or their permissions"),
            404 => (ErrorKind::NotFound, "has no such thing"),
            _ => (ErrorKind::Unavailable, "answers with an error"),
        };
        let reason = excerpt(&String::from_utf8_lossy(&answer.body));
        let text = format!("{} {text}: {} {reason}", self.http, answer.status);
        Err(Error::new(kind, text))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Api").field(&self.http.to_string()).finish()
    }
}

/// The API, or an error that says how to have it.
pub(crate) fn needed<'a>(api: Option<&'a Api>, what: &str) -> Result<&'a Api> {
    api.ok_or_else(|| Error::new(ErrorKind::InvalidConfig, format!("{what} {NEEDED}")))
}

/// A name as one segment of a path.
fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}
