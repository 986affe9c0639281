//! The conformance suite on RabbitMQ, one node.

use std::process::ExitCode;

use tests_integration::conformance::{RabbitHarness, run_as_tests};

fn main() -> ExitCode {
    run_as_tests([RabbitHarness::one_node()])
}
