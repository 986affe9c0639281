//! Tests that every backend has to pass, and the tools to judge a run.
//!
//! [`conformance`] is the contract as cases; [`broken`] are drivers that each break one rule, to show
//! that the cases can fail. [`audit`] judges a recorded run; [`proxy`] makes faults between clients
//! and a server for one to judge.

pub mod audit;
pub mod broken;
pub mod conformance;
pub mod proxy;
