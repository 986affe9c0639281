//! The checked-in protobuf code is what the schema gives.

use std::path::Path;

/// Generates the code anew and compares. `BLESS=1` writes it instead.
#[test]
fn the_generated_code_is_what_the_schema_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = root.join("proto");
    let schema = proto.join("helixagent/messaging/v1/messages.proto");
    let descriptors = protox::compile([schema], [proto]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new().out_dir(out.path()).compile_fds(descriptors).unwrap();
    let file = "helixagent.messaging.v1.rs";
    let generated = std::fs::read_to_string(out.path().join(file)).unwrap();
    let checked_in = root.join("src/schema").join(file);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&checked_in, &generated).unwrap();
    }
    let known = std::fs::read_to_string(&checked_in).unwrap();
    assert!(known == generated, "out of date; run BLESS=1 cargo test -p messaging-core generated");
}
