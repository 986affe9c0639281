//! The processor time of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A reading of the processor time that this process has taken, in its own code and in the kernel.
pub(crate) struct Cpu(Duration);

impl Cpu {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Self(Duration::try_from(time).unwrap_or_default())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}
