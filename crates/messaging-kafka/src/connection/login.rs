//! SASL: showing who we are.

use std::io::Cursor;

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use messaging_core::{Error, ErrorKind, Result};
use rsasl::config::SASLConfig;
use rsasl::prelude::{Mechname, SASLClient};
use tokio::time::Instant;

use super::Connection;
use crate::config::{Login, Mechanism};

impl Mechanism {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Connection {
    /// Logs in. Both sides prove what they know with SCRAM.
    pub(super) async fn login(&self, login: &Login, deadline: Instant) -> Result<()> {
        let mechanism = login.mechanism.name();
        let request =
            SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        let answer = self.call(&request, deadline).await?;
        let offered: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
        if answer.error_code != 0 || !offered.contains(&mechanism) {
            let offered = match offered.is_empty() {
                true => "no SASL on this listener".to_owned(),
                false => offered.join(", "),
            };
            let text = format!(
                "{} does not offer KAFKA_SASL_MECHANISM {mechanism} (accepted: {offered})",
                self.address()
            );
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        }
        // The session is not `Send` and lives only between two requests; its state is in here.
        let failed = || self.refused(login, None);
        let (user, password) = (login.user.clone(), login.password.reveal().to_owned());
        let config = SASLConfig::with_credentials(None, user, password).map_err(|_| failed())?;
        let name = Mechname::parse(mechanism.as_bytes()).map_err(|_| failed())?;
        let mut session = SASLClient::new(config).start_suggested(&[name]).map_err(|_| failed())?;
        let mut received: Option<Bytes> = None;
        loop {
            let mut ours = Cursor::new(Vec::new());
            let state = session.step(received.as_deref(), &mut ours).map_err(|_| failed())?;
            if state.has_sent_message() {
                let request =
                    SaslAuthenticateRequest::default().with_auth_bytes(ours.into_inner().into());
                let answer = self.call(&request, deadline).await?;
                if answer.error_code != 0 {
                    return Err(self.refused(login, answer.error_message));
                }
                received = Some(answer.auth_bytes);
            }
            if state.is_finished() {
                return Ok(());
            }
        }
    }

    fn refused(&self, login: &Login, reason: Option<StrBytes>) -> Error {
        let user = messaging_core::error::excerpt(&login.user);
        let mut text = format!("{} refuses the password of user {user}", self.address());
        if let Some(reason) = reason {
            text.push_str(": ");
            text.push_str(&messaging_core::error::excerpt(&reason));
        }
        Error::new(ErrorKind::Denied, text)
    }
}
