//! The conformance suite on the memory backend.

use std::process::ExitCode;

use tests_integration::conformance::{MemoryHarness, run_as_tests};

fn main() -> ExitCode {
    run_as_tests([MemoryHarness])
}
