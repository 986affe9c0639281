//! The rules, one in a file.

mod conservation;
pub(super) mod duplicates;
pub(super) mod fencing;
pub(super) mod gaps;
mod ghosts;
pub(super) mod liveness;
mod log;
pub(super) mod lost;
pub(super) mod order;
mod phantoms;
mod premature;
mod resources;
pub(super) mod unknown;

use super::Promise;
use super::index::Index;
use super::report::Findings;

/// A rule: adds what it finds.
type Check = fn(&Index, &Promise, &mut Findings<'_>);

/// Every rule that can be broken.
pub(super) const ALL: [Check; 12] = [
    lost::check,
    premature::check,
    phantoms::check,
    ghosts::check,
    order::check,
    duplicates::check,
    fencing::check,
    gaps::check,
    liveness::check,
    resources::check,
    conservation::check,
    log::check,
];
