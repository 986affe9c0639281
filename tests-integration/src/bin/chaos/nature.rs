use std::time::Duration;

use tests_integration::audit::Id;

use crate::dice::Dice;
use crate::group::Group;

/// How handling a message goes, which follows from the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// How long it takes.
    pub(crate) work: Duration,
    /// How many attempts fail.
    pub(crate) failures: u32,
}

impl Nature {
    /// In a thousand messages, 80 fail once, 10 twice and 10 always; 20 take long.
    pub(crate) fn of(seed: u64, group: Group, id: Id) -> Self {
        let mut dice = Dice::of(&[seed, group as u64, u64::from(id.producer), id.sequence]);
        let failures = match dice.below(1_000) {
            0..80 => 1,
            80..90 => 2,
            90..100 => u32::MAX,
            _ => 0,
        };
        let work = if dice.percent(2) { dice.millis(50, 250) } else { dice.millis(0, 3) };
        Self { work, failures }
    }
}
