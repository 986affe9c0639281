//! The processor time of this process.

use std::time::Duration;

/// A reading of the processor time that this process has taken, in steps of 10 ms.
pub(crate) struct Cpu(Duration);

impl Cpu {
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        // The name of the program may hold anything but ends with the last parenthesis; user and
        // system time are the 12th and 13th field behind it (proc(5)), in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields.iter().skip(11).take(2).map(|t| t.parse::<u64>().unwrap()).sum();
        Self(Duration::from_millis(10 * ticks))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}
