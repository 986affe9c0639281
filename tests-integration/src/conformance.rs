//! The driver contract as cases over the portable handles.
//!
//! A case names the rules of the [contract](messaging::driver) it shows and the features it needs. On
//! a backend that lacks one of them, the refusal is checked instead: the same wish must end in a
//! typed error. So a capability that claims too much fails a case, and one that claims too little
//! fails `the_capability_table_is_what_is_documented`.

mod cases;
mod harness;
mod member;
mod outcome;
mod refusal;
mod server;
mod stage;
mod trials;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::Feature;
use messaging::driver::Scope;
use tokio::time::timeout;

pub use self::cases::ALL;
pub use self::harness::{KafkaHarness, MemoryHarness, RabbitHarness, RedisHarness, harness_of};
pub use self::member::play_member;
pub use self::outcome::{Outcome, Tally};
pub use self::server::{Connecting, Foreign, Server, ServerNeed};
pub use self::stage::Stage;
pub(crate) use self::stage::topology;
pub use self::trials::run_as_tests;

/// A backend under test.
pub trait Harness: Send + Sync {
    /// The backend's name.
    fn name(&self) -> &'static str;

    /// The features that its documentation says it lacks.
    fn lacks(&self) -> &'static [Feature];

    /// Whether nothing outside the process takes time, so that the clock may jump.
    fn has_virtual_time(&self) -> bool;

    /// Whether there is a server that can be driven.
    fn has_server(&self) -> bool;

    /// Why the broker it needs is not there and can't be started, if that is so.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Sets up an empty place of its own for one case, or says why the broker is not there.
    fn stage(&self, need: ServerNeed) -> BoxFuture<'_, Result<Stage, String>>;
}

/// One sentence about every backend.
#[derive(Clone, Copy)]
pub struct Case {
    /// The sentence.
    pub name: &'static str,
    /// The rules of the driver contract that it shows, such as `C6`.
    pub rules: &'static [&'static str],
    /// The features without which it makes no sense.
    pub needs: &'static [Feature],
    /// What it needs of a server; without one, such a case has no meaning.
    pub server: ServerNeed,
    run: fn(Stage) -> BoxFuture<'static, ()>,
}

/// The cases that have a meaning on a backend.
pub fn cases_of(harness: &dyn Harness) -> impl Iterator<Item = &'static Case> + use<> {
    let has_server = harness.has_server();
    let all = ALL.iter().copied().flatten();
    all.filter(move |case| has_server || case.server == ServerNeed::Nothing)
}

/// No case takes longer; what does hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// As [`LIMIT`], where a server starts again, perhaps several times, while others use the machine.
const LIMIT_WITH_OUTAGES: Duration = Duration::from_secs(240);

impl Case {
    /// Runs it on a backend, in a runtime of its own.
    #[must_use]
    pub fn run(&self, harness: &dyn Harness) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(harness.has_virtual_time())
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.run_within(harness)),
            Err(error) => Outcome::Failed(format!("no runtime: {error}")),
        }
    }

    async fn run_within(&self, harness: &dyn Harness) -> Outcome {
        let stage = match harness.stage(self.server).await {
            Ok(stage) => stage,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let capabilities = stage.broker().await.capabilities(Scope::Broker);
        let missing = self.needs.iter().find(|feature| !capabilities.has(**feature));
        let checked = match missing {
            None => (self.run)(stage),
            Some(feature) => refusal::check(stage, *feature).boxed(),
        };
        let limit = if self.server == ServerNeed::Own { LIMIT_WITH_OUTAGES } else { LIMIT };
        match timeout(limit, AssertUnwindSafe(checked).catch_unwind()).await {
            Err(_) => Outcome::Failed(format!("it did not end within {} s", limit.as_secs())),
            Ok(Err(panic)) => outcome::of_panic(&*panic),
            Ok(Ok(())) => match missing {
                None => Outcome::Passed,
                Some(feature) => Outcome::Refused(*feature),
            },
        }
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}
