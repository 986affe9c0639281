//! How far a group has come in each partition, as pure code.
//!
//! * [`ledger`] knows what of one partition is unsettled, and the mark below which nothing is.
//! * [`metadata`] is what is stored beside the mark, so that a restart neither skips nor repeats more
//!   than it must.
//! * [`resume`] is what a new owner makes of both: where it reads on, what is done already, and what
//!   is suspect after an unclean end.

pub(crate) mod ledger;
pub(crate) mod metadata;
pub(crate) mod resume;
