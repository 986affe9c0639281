//! A connection to one broker: requests go out in order, and so come the answers.

mod connector;
mod io;
mod login;
mod request;
mod tls;
mod versions;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use messaging_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub(crate) use self::connector::Connector;
use self::io::Exchange;
pub(crate) use self::request::Request;
use self::versions::Versions;
use crate::config::Address;
use crate::error::{late, unexpected};

/// The largest answer that is read, unless a call says otherwise. It is checked before anything is
/// allocated.
pub(crate) const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A connection to one broker. Clones share it.
///
/// A broker answers one request of a connection after the other, so a request that it holds back (a
/// fetch, a join) delays those behind it: such calls have a connection of their own.
///
/// A call that is given up, by its deadline or by being dropped, ends the connection for everybody:
/// what it would answer belongs to nobody any more. [`Cluster`](crate::cluster::Cluster) opens the
/// next one.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Address,
    client_id: StrBytes,
    versions: Versions,
    correlation: AtomicI32,
    queue: mpsc::Sender<Exchange>,
    /// Cancelled when nothing more goes over it.
    ended: CancellationToken,
    /// Why it ended, where it was not by us.
    cause: Arc<OnceLock<String>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

impl Connection {
    /// Asks, in the highest version that both sides know, and gives the answer, whose error codes
    /// nobody has looked at.
    ///
    /// # Errors
    /// [`ErrorKind::NotSent`]: nothing of it was sent. [`ErrorKind::Timeout`] and
    /// [`ErrorKind::Unavailable`]: it may have been done all the same. [`ErrorKind::Other`]: there is
    /// no version in common, or the answer can't be read.
    pub(crate) async fn call<R: Request>(
        &self,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response> {
        let (version, mut answer) = self.call_raw(request, deadline).await?;
        self.decode::<R::Response>(&mut answer, version, R::NAME)
    }

    /// As [`Connection::call`], but gives the version and the answer behind its header as it came,
    /// for readers with decoders of their own.
    pub(crate) async fn call_raw<R: Request>(
        &self,
        request: &R,
        deadline: Instant,
    ) -> Result<(i16, Bytes)> {
        let version = self.version::<R>()?;
        self.call_in(request, version, MAX_ANSWER, deadline).await.map(|answer| (version, answer))
    }

    /// Asks in this version; `limit` is the largest answer.
    async fn call_in<R: Request>(
        &self,
        request: &R,
        version: i16,
        limit: usize,
        deadline: Instant,
    ) -> Result<Bytes> {
        let (frame, correlation) = self.frame(request, version)?;
        let mut answer = self.exchange(frame, correlation, limit, deadline).await?;
        // An answer about versions has the oldest header, as its reader may know no other.
        let header = match R::KEY {
            18 => 0,
            _ => R::Response::header_version(version),
        };
        self.decode::<ResponseHeader>(&mut answer, header, R::NAME)?;
        Ok(answer)
    }

    /// The version in which `R` is asked.
    pub(crate) fn version<R: Request>(&self) -> Result<i16> {
        self.0.versions.pick::<R>().ok_or_else(|| {
            let text =
                format!("{} and we have no version of {} in common", self.0.address, R::NAME);
            Error::new(ErrorKind::Other, text)
        })
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> &Address {
        &self.0.address
    }

    /// Whether nothing more goes over it.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.ended.is_cancelled()
    }

    /// Ends it: what waits for an answer fails.
    pub(crate) fn end(&self) {
        self.0.ended.cancel();
    }

    fn frame<R: Request>(&self, request: &R, version: i16) -> Result<(Bytes, i32)> {
        let correlation = self.0.correlation.fetch_add(1, Ordering::Relaxed);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(self.0.client_id.clone()));
        let mut frame = BytesMut::with_capacity(request.compute_size(version).unwrap_or(0) + 64);
        frame.put_i32(0);
        let encoded = header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version));
        if let Err(error) = encoded {
            let text = format!("{} can't be written in version {version}", R::NAME);
            return Err(Error::new(ErrorKind::Other, text).with_source(error.to_string()));
        }
        let length = i32::try_from(frame.len() - 4).map_err(|_| {
            let (size, limit) = (frame.len(), i32::MAX as usize);
            Error::new(ErrorKind::TooLarge { size, limit }, "the request is too large")
        })?;
        if let Some(place) = frame.get_mut(..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok((frame.freeze(), correlation))
    }

    async fn exchange(
        &self,
        frame: Bytes,
        correlation: i32,
        limit: usize,
        deadline: Instant,
    ) -> Result<Bytes> {
        let not_sent = || {
            let text = format!("the connection to {} has ended", self.0.address);
            Error::new(ErrorKind::NotSent, text)
        };
        if self.is_ended() {
            return Err(not_sent());
        }
        // Ends the connection unless the answer comes.
        let abandoned = self.0.ended.clone().drop_guard();
        let (answer, answered) = oneshot::channel();
        let exchange = Exchange { frame, correlation, limit, answer };
        let outcome = timeout_at(deadline, async {
            if self.0.queue.send(exchange).await.is_err() {
                return Err(not_sent());
            }
            answered.await.unwrap_or_else(|_| Err(self.broken()))
        })
        .await
        .unwrap_or_else(|_| Err(late(&self.0.address, "a request")));
        if outcome.is_ok() {
            abandoned.disarm();
        }
        outcome
    }

    /// The connection broke while something waited for its answer.
    fn broken(&self) -> Error {
        let cause = self.0.cause.get().map_or("it was given up", String::as_str);
        let text = format!("the connection to {} ended: {cause}", self.0.address);
        Error::new(ErrorKind::Unavailable, text)
    }

    fn decode<T: Decodable>(&self, answer: &mut Bytes, version: i16, what: &str) -> Result<T> {
        // The generated decoders trust the lengths they read, and some of their arithmetic panics.
        let decoded = catch_unwind(AssertUnwindSafe(|| T::decode(answer, version)));
        match decoded {
            Ok(Ok(decoded)) => Ok(decoded),
            Ok(Err(_)) | Err(_) => {
                self.end();
                Err(unexpected(&self.0.address, what))
            }
        }
    }
}
