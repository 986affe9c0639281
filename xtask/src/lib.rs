//! What `cargo xtask` and the tests share: real brokers on this machine.

pub mod brokers;
pub mod tree;
