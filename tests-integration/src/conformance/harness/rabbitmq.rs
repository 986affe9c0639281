mod server;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::rabbitmq::{Rabbit, RabbitConfig};
use messaging::{Broker, Error, Feature, MessageId};
use xtask::brokers::{Kind, Options, Private};

use self::server::RabbitServer;
use super::nodes::Shared;
use crate::conformance::{Connecting, Harness, Server, ServerNeed, Stage};

/// The RabbitMQ backend on nodes of its own, which are started for the first case; each case has a
/// virtual host. Cases that end or stop a node get others.
#[derive(Debug)]
pub struct RabbitHarness {
    options: Options,
    nodes: Shared,
}

/// What queues are not: a log that can be read again, and a place with a number for each message.
const LACKS: [Feature; 8] = [
    Feature::ParallelLanes,
    Feature::Priority,
    Feature::ConfirmedSettlement,
    Feature::StartEarliest,
    Feature::StartPosition,
    Feature::StartTime,
    Feature::ReadRange,
    Feature::Positions,
];

impl RabbitHarness {
    /// On one node.
    #[must_use]
    pub fn one_node() -> Self {
        Self::on(Options::new(Kind::RabbitMq))
    }

    /// On nodes with these options.
    #[must_use]
    pub fn on(options: Options) -> Self {
        Self { options, nodes: Shared::default() }
    }

    fn start(&self) -> Result<Arc<Private>, String> {
        Ok(Arc::new(Private::start("conformance", self.options.clone())?))
    }

    fn shared(&self) -> Result<Arc<Private>, String> {
        self.nodes.get(|| self.start())
    }
}

impl Harness for RabbitHarness {
    fn name(&self) -> &'static str {
        "rabbitmq"
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
            let server = RabbitServer::create(nodes, &format!("t-{}", MessageId::generate()))?;
            let variables = server.variables();
            let stage = Stage::new(self.lacks(), move || connect(&variables));
            Ok(stage.with_server(Arc::new(server)).with_late_counts())
        }
        .boxed()
    }
}

/// Connects a process that was started as a member.
pub(super) fn member() -> Connecting {
    async { Ok(Broker::builder(Rabbit::connect(RabbitConfig::from_env()?).await?)) }.boxed()
}

/// Connects to where these variables say.
fn connect(variables: &[(String, String)]) -> Connecting {
    let get = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        Ok::<_, Error>(found.map(|(_, value)| value.clone()))
    };
    let config = RabbitConfig::from_variables(get);
    async { Ok(Broker::builder(Rabbit::connect(config?).await?)) }.boxed()
}
