//! The conformance suite on Kafka, one broker.

use std::process::ExitCode;

use tests_integration::conformance::{KafkaHarness, run_as_tests};

fn main() -> ExitCode {
    run_as_tests([KafkaHarness::one_node()])
}
