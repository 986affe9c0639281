//! What members of a group tell each other, and what a commit says.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| messaging_kafka::fuzzed::group(bytes));
