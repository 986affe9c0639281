//! What building a package needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// The ids of the packages that building one needs on Linux, build dependencies among them, tests
/// not.
///
/// # Errors
///
/// When cargo does not know the package.
pub fn needed(package: &str) -> Result<BTreeSet<String>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cargo metadata: {error}");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(here.parent().unwrap_or(here))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(&error))?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let nodes: BTreeMap<String, Value> = list(metadata.pointer("/resolve/nodes"))
        .into_iter()
        .map(|n| (text(n.get("id")), n))
        .collect();
    let mark = format!("/{package}#");
    let root = nodes.keys().find(|id| id.contains(&mark));
    let mut open = vec![root.ok_or_else(|| format!("there is no package {package}"))?.clone()];
    let mut found = BTreeSet::new();
    while let Some(id) = open.pop() {
        let dependencies = list(nodes.get(&id).and_then(|node| node.get("deps")));
        if !found.insert(id) {
            continue;
        }
        for dependency in dependencies {
            let kinds = list(dependency.get("dep_kinds"));
            if kinds.iter().any(|kind| text(kind.get("kind")) != "dev") {
                open.push(text(dependency.get("pkg")));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_needs_no_system_library_and_no_other_build_tool() {
        let needed = needed("helixagent").unwrap();
        assert!(needed.iter().any(|id| id.contains("rskafka")), "{needed:?}");
        let name = |id: &str| id.rsplit(['#', '/']).next().map(ToOwned::to_owned);
        let names: Vec<String> = needed.iter().filter_map(|id| name(id)).collect();
        for other in ["rdkafka", "openssl-sys", "native-tls", "cmake", "protoc-", "prost-build"] {
            let bad: Vec<&String> = names.iter().filter(|name| name.starts_with(other)).collect();
            assert!(bad.is_empty(), "{bad:?}");
        }
    }
}
