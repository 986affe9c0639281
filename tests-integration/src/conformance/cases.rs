//! The cases, by what they are about.

mod admin;
mod closing;
mod dead_letters;
mod deadlines;
mod delivery;
mod foreign;
mod groups;
mod hearing;
mod listening;
mod losses;
mod order;
mod outages;
mod overhearing;
mod processes;
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
    hearing::CASES,
    losses::CASES,
    overhearing::CASES,
    worker::CASES,
    admin::CASES,
    closing::CASES,
    outages::CASES,
    deadlines::CASES,
    processes::CASES,
    foreign::CASES,
];

/// Makes a table of cases: `name [rules] [features]`, each with a function of its name; `Shared` or
/// `Own` behind that is what it needs of a server.
macro_rules! cases {
    (@server) => { $crate::conformance::ServerNeed::Nothing };
    (@server $need:ident) => { $crate::conformance::ServerNeed::$need };
    ($($name:ident [$($rule:literal),*] [$($feature:ident),*] $($need:ident)?;)*) => {
        pub(super) const CASES: &[$crate::conformance::Case] = &[$(
            $crate::conformance::Case {
                name: stringify!($name),
                rules: &[$($rule),*],
                needs: &[$(messaging::Feature::$feature),*],
                server: cases!(@server $($need)?),
                run: |stage| Box::pin($name(stage)),
            }
        ),*];
    };
}

use cases;
