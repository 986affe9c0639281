use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::Feature;

use crate::conformance::{Harness, ServerNeed, Stage};

/// The memory backend.
#[derive(Clone, Copy, Debug)]
pub struct MemoryHarness;

impl Harness for MemoryHarness {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn lacks(&self) -> &'static [Feature] {
        &[]
    }

    fn has_virtual_time(&self) -> bool {
        true
    }

    fn has_server(&self) -> bool {
        false
    }

    fn stage(&self, _: ServerNeed) -> BoxFuture<'_, Result<Stage, String>> {
        async {
            let memory = messaging::memory::Memory::new();
            Ok(Stage::new(self.lacks(), move || {
                let memory = memory.clone();
                async { Ok(messaging::Broker::builder(memory)) }.boxed()
            }))
        }
        .boxed()
    }
}
