use std::fmt;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::{Broker, BrokerBuilder, Error, ErrorKind, Result};
use messaging_memory::Memory;

use crate::config;
use crate::environment::Environment;
use crate::telemetry::LogNotices;

/// The backends that [`Registry::connect`] can choose from, by name.
pub struct Registry(Vec<Backend>);

struct Backend {
    name: &'static str,
    open: Box<dyn Fn(&Environment) -> Opening + Send + Sync>,
}

/// A backend on its way: reads its variables at once, then connects.
pub type Opening = BoxFuture<'static, Result<BrokerBuilder>>;

/// The variable that names the backend.
const BACKEND: &str = "MESSAGING_BACKEND";

/// The variable that names the topology file.
const TOPOLOGY: &str = "MESSAGING_TOPOLOGY";

/// Every backend of the project, compiled in or not.
const KNOWN: [&str; 5] = ["memory", "redis", "redis-streams", "kafka", "rabbitmq"];

impl Registry {
    /// A registry without backends.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The backends that this build has, which its cargo features choose.
    #[must_use]
    pub fn compiled_in() -> Self {
        let registry =
            Self::empty().with("memory", |_| async { Ok(Broker::builder(Memory::new())) }.boxed());
        #[cfg(feature = "redis")]
        let registry = registry
            .with("redis", |environment| {
                let config = redis_config(environment);
                async { Ok(Broker::builder(messaging_redis::PubSub::connect(config?).await?)) }
                    .boxed()
            })
            .with("redis-streams", |environment| {
                let config = redis_config(environment);
                async { Ok(Broker::builder(messaging_redis::Streams::connect(config?).await?)) }
                    .boxed()
            });
        #[cfg(feature = "kafka")]
        let registry = registry.with("kafka", |environment| {
            let config = messaging_kafka::KafkaConfig::from_variables(variables(environment));
            async { Ok(Broker::builder(messaging_kafka::Kafka::connect(config?).await?)) }.boxed()
        });
        #[cfg(feature = "rabbitmq")]
        let registry = registry.with("rabbitmq", |environment| {
            let config = messaging_amqp::RabbitConfig::from_variables(variables(environment));
            async { Ok(Broker::builder(messaging_amqp::Rabbit::connect(config?).await?)) }.boxed()
        });
        registry
    }

    /// Adds a backend; the last one of a name counts.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        open: impl Fn(&Environment) -> Opening + Send + Sync + 'static,
    ) -> Self {
        self.0.retain(|backend| backend.name != name);
        self.0.push(Backend { name, open: Box::new(open) });
        self
    }

    /// The names of its backends.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|backend| backend.name).collect()
    }

    /// Connects to the backend that the environment names, with the topology that it names.
    ///
    /// # Errors
    /// As [`connect`](crate::connect).
    pub async fn connect(&self, environment: &Environment) -> Result<Broker> {
        self.builder(environment).await?.open().await
    }

    /// As [`Registry::connect`], for whoever opens the broker otherwise.
    ///
    /// # Errors
    /// As [`connect`](crate::connect).
    pub async fn builder(&self, environment: &Environment) -> Result<BrokerBuilder> {
        let name = environment.get(BACKEND)?.unwrap_or("memory");
        let backend = self.0.iter().find(|backend| backend.name == name);
        let backend = backend.ok_or_else(|| self.unknown(name))?;
        let topology = match environment.get(TOPOLOGY)? {
            Some(path) => config::read_topology(path.as_ref())?,
            None => messaging_core::Topology::default(),
        };
        let builder = (backend.open)(environment).await?;
        Ok(builder.topology(topology).observer(LogNotices::new(backend.name)))
    }

    fn unknown(&self, name: &str) -> Error {
        let reason = if KNOWN.contains(&name) {
            "this backend is not compiled in"
        } else {
            "no backend has this name"
        };
        let accepted = format!("compiled in: {}", self.names().join(", "));
        Error::invalid(ErrorKind::UnknownBackend, BACKEND, name, reason, &accepted)
    }
}

#[cfg(feature = "redis")]
fn redis_config(environment: &Environment) -> Result<messaging_redis::RedisConfig> {
    messaging_redis::RedisConfig::from_variables(variables(environment))
}

/// The variables as backends read them.
#[cfg(any(feature = "kafka", feature = "rabbitmq", feature = "redis"))]
fn variables(environment: &Environment) -> impl Fn(&str) -> Result<Option<String>> {
    |name| environment.get(name).map(|value| value.map(str::to_owned))
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.names()).finish()
    }
}
