use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::redis::{RedisConfig, Streams};
use messaging::{Broker, Feature, MessageId, Result};
use xtask::brokers::{Kind, Options, Private};

use crate::conformance::{Harness, Stage};

/// Redis Streams on a server of its own, which is started for the first case.
#[derive(Debug)]
pub struct RedisHarness {
    options: Options,
    server: Mutex<Option<Arc<Private>>>,
}

impl RedisHarness {
    /// On one node that syncs each write.
    #[must_use]
    pub fn streams() -> Self {
        Self { options: Options::new(Kind::Redis), server: Mutex::default() }
    }

    /// The same on servers of other options.
    #[must_use]
    pub fn with(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    fn server(&self) -> Result<Arc<Private>, String> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*server {
            return Ok(Arc::clone(server));
        }
        let started = Arc::new(Private::start("conformance", self.options.clone())?);
        Ok(Arc::clone(server.insert(started)))
    }
}

impl Harness for RedisHarness {
    fn name(&self) -> &'static str {
        "redis-streams"
    }

    fn lacks(&self) -> &'static [Feature] {
        &[Feature::Priority]
    }

    fn has_virtual_time(&self) -> bool {
        false
    }

    fn stage(&self) -> BoxFuture<'_, Result<Stage, String>> {
        async {
            let server = self.server()?;
            let config = config(&server, &MessageId::generate()).map_err(|e| e.to_string())?;
            Ok(Stage::new(self.lacks(), move || {
                let config = config.clone();
                async { Ok(Broker::builder(Streams::connect(config).await?)) }.boxed()
            }))
        }
        .boxed()
    }
}

/// The way to a server, with a prefix of its own.
fn config(server: &Private, prefix: &MessageId) -> Result<RedisConfig> {
    let variables = server.env();
    let get = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        Ok(found.map(|(_, value)| value.clone()))
    };
    RedisConfig::from_variables(get)?.with_prefix(&format!("t-{prefix}"))
}
