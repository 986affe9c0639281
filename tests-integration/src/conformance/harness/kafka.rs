mod server;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::kafka::{Kafka, KafkaConfig};
use messaging::{Broker, Error, Feature, MessageId};
use xtask::brokers::{Kind, Options, Private};

use self::server::KafkaServer;
use super::nodes::Shared;
use crate::conformance::stage::IMPATIENCE;
use crate::conformance::{Connecting, Harness, ServerNeed, Stage};

/// The Kafka backend on brokers of its own, which are started for the first case; each case has a
/// prefix. Cases that end or stop a broker get others.
#[derive(Debug)]
pub struct KafkaHarness {
    options: Options,
    nodes: Shared,
}

/// What a log of partitions is not.
const LACKS: [Feature; 1] = [Feature::Priority];

/// After what silence members of cases count as dead, and how often they say that they are not.
const SESSION: Duration = Duration::from_secs(6);
const HEARTBEAT: Duration = Duration::from_secs(1);

impl KafkaHarness {
    /// On one broker, without `ZooKeeper`.
    #[must_use]
    pub fn one_node() -> Self {
        Self::on(Options::new(Kind::Kafka))
    }

    /// On brokers with these options. They ask our clients for a password, and their own tools not.
    #[must_use]
    pub fn on(options: Options) -> Self {
        let options = server::with_login(options)
            // Cases can't wait for the usual times.
            .with_setting("group.min.session.timeout.ms", "1000");
        Self { options, nodes: Shared::default() }
    }

    fn start(&self) -> Result<Arc<Private>, String> {
        Ok(Arc::new(Private::start("conformance", self.options.clone())?))
    }

    fn shared(&self) -> Result<Arc<Private>, String> {
        self.nodes.get(|| self.start())
    }
}

impl Harness for KafkaHarness {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn lacks(&self) -> &'static [Feature] {
        &LACKS
    }

    fn has_virtual_time(&self) -> bool {
        false
    }

    fn has_server(&self) -> bool {
        true
    }

    fn missing(&self) -> Option<String> {
        self.shared().err()
    }

    fn stage(&self, need: ServerNeed) -> BoxFuture<'_, Result<Stage, String>> {
        async move {
            let nodes = match need {
                ServerNeed::Own => self.start()?,
                ServerNeed::Shared | ServerNeed::Nothing => self.shared()?,
            };
            let server = KafkaServer { nodes, prefix: format!("t-{}", MessageId::generate()) };
            let config = server.config().map_err(|error| error.to_string())?;
            let stage = Stage::new(self.lacks(), move || connect(config.clone()));
            Ok(stage.with_server(Arc::new(server)))
        }
        .boxed()
    }
}

/// Connects a process that was started as a member.
pub(super) fn member() -> Connecting {
    async { connect(impatient(KafkaConfig::from_env()?)).await }.boxed()
}

fn connect(config: KafkaConfig) -> Connecting {
    async { Ok(Broker::builder(Kafka::connect(config).await?)) }.boxed()
}

/// What these variables say, with the times of cases.
fn config(variables: &[(String, String)]) -> Result<KafkaConfig, Error> {
    let get = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        Ok::<_, Error>(found.map(|(_, value)| value.clone()))
    };
    let mut config = KafkaConfig::from_variables(get)?;
    (config.session_timeout, config.heartbeat) = (SESSION, HEARTBEAT);
    Ok(config)
}

/// Members count as dead after [`IMPATIENCE`].
fn impatient(mut config: KafkaConfig) -> KafkaConfig {
    (config.session_timeout, config.heartbeat) = (IMPATIENCE, IMPATIENCE / 4);
    config
}
