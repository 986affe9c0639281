//! The conformance suite on both backends over Redis.

use std::process::ExitCode;

use tests_integration::conformance::{RedisHarness, run_as_tests};
use xtask::brokers::RedisMode;

fn main() -> ExitCode {
    run_as_tests([RedisHarness::streams(), RedisHarness::pubsub_on(RedisMode::Single)])
}
