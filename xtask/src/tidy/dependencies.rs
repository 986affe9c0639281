//! Who may depend on whom: core, then backends, then the facade, then programs and tests.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Finding;
use crate::cargo::Cargo;

/// The direct dependencies of each package of the workspace, without those of its tests.
pub(super) type Dependencies = BTreeMap<String, Vec<String>>;

/// Client libraries: they belong to backends, and never to core or the facade.
const CLIENTS: [&str; 8] =
    ["rskafka", "kafka-protocol", "rdkafka", "amqprs", "lapin", "redis", "deadpool-redis", "fred"];

#[expect(clippy::indexing_slicing, reason = "a missing field of a JSON value reads as null")]
pub(super) fn of_workspace() -> Result<Dependencies, String> {
    let text = Cargo::run(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(packages
        .map(|package| {
            let all = package["dependencies"].as_array().into_iter().flatten();
            let normal = all.filter(|dependency| dependency["kind"] != "dev");
            (text(&package["name"]), normal.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect())
}

pub(super) fn check(dependencies: &Dependencies) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (package, needed) in dependencies {
        for name in needed {
            if CLIENTS.contains(&&**name) && matches!(level(package), Some(0 | 2)) {
                findings.push(Finding::new(package, format!("{name} is a backend's matter")));
            }
            if let (Some(above), Some(below)) = (level(package), level(name))
                && below >= above
            {
                findings.push(Finding::new(package, format!("it may not depend on {name}")));
            }
        }
    }
    findings
}

/// Core 0, backends 1, facade 2, programs 3, tests 4; `None` for packages of others.
fn level(package: &str) -> Option<u8> {
    match package {
        "messaging-core" => Some(0),
        "messaging" => Some(2),
        "helixagent" | "xtask" | "only-kafka" | "only-memory" | "only-rabbitmq" | "only-redis" => {
            Some(3)
        }
        "tests-integration" => Some(4),
        name if name.starts_with("messaging-") => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(package: &str, needs: &str) -> usize {
        check(&Dependencies::from([(package.to_owned(), vec![needs.to_owned()])])).len()
    }

    #[test]
    fn dependencies_point_from_programs_to_core_and_never_back() {
        assert_eq!(findings("messaging-redis", "messaging-core"), 0);
        assert_eq!(findings("messaging", "messaging-redis"), 0);
        assert_eq!(findings("helixagent", "messaging"), 0);
        assert_eq!(findings("tests-integration", "xtask"), 0);
        assert_eq!(findings("messaging-core", "messaging-memory"), 1);
        assert_eq!(findings("messaging-redis", "messaging-memory"), 1);
        assert_eq!(findings("messaging-memory", "messaging"), 1);
    }

    #[test]
    fn client_libraries_stay_in_backends() {
        assert_eq!(findings("messaging-kafka", "rskafka"), 0);
        assert_eq!(findings("messaging-core", "rskafka"), 1);
        assert_eq!(findings("messaging", "redis"), 1);
    }
}
