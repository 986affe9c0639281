//! One request over one connection, with a deadline over all of it.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::{Either, select};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use messaging_core::{Error, ErrorKind, Result};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Address, Management, RabbitConfig};
use crate::connection::tls_connector;

/// The largest answer that is read.
const LARGEST: usize = 64 << 20;

/// Why a request has no answer.
type Cause = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Http {
    address: Address,
    tls: Option<(ServerName<'static>, TlsConnector)>,
    path: String,
    authorization: HeaderValue,
    limit: Duration,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Http {
    pub(super) fn new(management: &Management, config: &RabbitConfig) -> Result<Self> {
        let Management { address, path, user, password, .. } = management;
        let tls = match management.tls {
            false => None,
            true => {
                let name = ServerName::try_from(address.host.clone()).map_err(|error| {
                    let text = format!("{address} has no name that a certificate can have");
                    Error::new(ErrorKind::InvalidConfig, text).with_source(error)
                })?;
                let tls = config.tls.clone().unwrap_or_default();
                Some((name, tls_connector(&tls)?))
            }
        };
        let login = STANDARD.encode(format!("{user}:{}", password.reveal()));
        let mut authorization = HeaderValue::try_from(format!("Basic {login}"))
            .map_err(|_| Error::new(ErrorKind::InvalidConfig, "the login is no header"))?;
        authorization.set_sensitive(true);
        let (address, path) = (address.clone(), path.clone());
        Ok(Self { address, tls, path, authorization, limit: config.timeout })
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn call(&self, method: Method, path: &str) -> Result<Answer> {
        match timeout(self.limit, self.attempt(method, path)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(cause)) => {
                let text =
                    format!("{self} can't be asked; is its port that of the management API?");
                Err(Error::new(ErrorKind::Unavailable, text).with_source(cause))
            }
            Err(_) => {
                let text = format!("{self} did not answer within {:?}", self.limit);
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }

    async fn attempt(&self, method: Method, path: &str) -> Result<Answer, Cause> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/{path}", self.path))
            .header(HOST, self.address.to_string())
            .header(CONNECTION, "close")
            .header(AUTHORIZATION, self.authorization.clone())
            .body(Empty::new())?;
        let socket = TcpStream::connect((&*self.address.host, self.address.port)).await?;
        match &self.tls {
            None => speak(socket, request).await,
            Some((name, tls)) => speak(tls.connect(name.clone(), socket).await?, request).await,
        }
    }
}

async fn speak<S>(socket: S, request: Request<Empty<Bytes>>) -> Result<Answer, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = handshake(TokioIo::new(socket)).await?;
    let asking = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await?.to_bytes();
        Ok(Answer { status, body })
    };
    match select(pin!(asking), pin!(connection)).await {
        Either::Left((answered, _)) => answered,
        // The connection has ended, which is no failure once the answer is complete.
        Either::Right((_, asking)) => asking.await,
    }
}

/// Where it is, without secrets.
impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "the management API {scheme}://{}{}", self.address, self.path)
    }
}
