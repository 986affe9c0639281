//! The cases, by what they are about.

mod admin;
mod closing;
mod dead_letters;
mod delivery;
mod groups;
mod listening;
mod order;
mod publishing;
mod retry;
mod start;
mod worker;

use super::Case;

/// Every case.
pub const ALL: &[&[Case]] = &[
    publishing::CASES,
    delivery::CASES,
    retry::CASES,
    dead_letters::CASES,
    groups::CASES,
    order::CASES,
    start::CASES,
    listening::CASES,
    worker::CASES,
    admin::CASES,
    closing::CASES,
];

/// Makes a table of cases: `name [rules] [features]`, each with a function of its name.
macro_rules! cases {
    ($($name:ident [$($rule:literal),*] [$($feature:ident),*];)*) => {
        pub(super) const CASES: &[$crate::conformance::Case] = &[$(
            $crate::conformance::Case {
                name: stringify!($name),
                rules: &[$($rule),*],
                needs: &[$(messaging::Feature::$feature),*],
                run: |stage| Box::pin($name(stage)),
            }
        ),*];
    };
}

use cases;
