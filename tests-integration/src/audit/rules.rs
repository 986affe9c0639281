//! The rules, one in a file.

mod conservation;
mod duplicates;
mod gaps;
mod ghosts;
mod lost;
mod order;
mod phantoms;
mod premature;
pub(super) mod unknown;

use super::Promise;
use super::index::Index;
use super::report::Findings;

/// A rule: adds what it finds.
type Check = fn(&Index, &Promise, &mut Findings<'_>);

/// Every rule that can be broken.
pub(super) const ALL: [Check; 8] = [
    lost::check,
    premature::check,
    phantoms::check,
    ghosts::check,
    order::check,
    duplicates::check,
    gaps::check,
    conservation::check,
];
