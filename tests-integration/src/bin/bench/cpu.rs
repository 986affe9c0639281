//! The processor time of this process, and of the whole machine.

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

/// Waits until the machine is at rest, for a minute at most, so that what a server has left to do for
/// one side is not counted against the next.
pub(crate) async fn rest() {
    for _ in 0..120 {
        let before = busy();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // A twentieth of one processor.
        if busy() - before <= Duration::from_millis(25) {
            return;
        }
    }
}

/// How long the processors of the machine have worked.
fn busy() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    // user, nice, system, idle, waiting for a disk, interrupts, soft interrupts, as proc(5) has them,
    // in hundredths of a second.
    let all = stat.lines().next().unwrap().split_whitespace().skip(1).enumerate();
    let ticks = all.filter(|(field, _)| matches!(field, 0..=2 | 5 | 6));
    Duration::from_millis(ticks.map(|(_, ticks)| ticks.parse::<u64>().unwrap() * 10).sum())
}
