//! Reading partitions: our own decoder of record batches, and the fetcher over it.
//!
//! * [`batch`] walks the batches of an answer, [`record`] the records of a batch. Both share the
//!   bytes of the answer; nothing is copied unless it was compressed.
//! * [`compression`] undoes compression with a cap.
//! * [`range`] reads what a partition keeps between two offsets.
//! * [`aborted`] knows which producers' records are skipped.

pub(crate) mod aborted;
pub(crate) mod batch;
pub(crate) mod compression;
pub(crate) mod range;
pub(crate) mod record;

#[cfg(test)]
pub(crate) mod encode;
#[cfg(test)]
mod hostile;
