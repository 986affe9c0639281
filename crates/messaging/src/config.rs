//! The topology as a TOML file.
//!
//! ```toml
//! tiers = ["1s", "2s", "4s", "30s"]
//!
//! [[stream]]
//! name = "tasks"
//! kind = "work"
//! partitions = 4
//!
//! [[group]]
//! name = "worker-1"
//! patterns = ["tasks.#"]
//! ```
//!
//! `examples/topology.toml` has every field.

use std::path::Path;

use messaging_core::error::excerpt;
use messaging_core::{Error, ErrorKind, Result, Topology};

/// Reads a topology file.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] or [`ErrorKind::UnknownStream`], naming the file, and the line where
/// there is one.
pub fn read_topology(path: &Path) -> Result<Topology> {
    let name = excerpt(&path.to_string_lossy());
    let text = std::fs::read_to_string(path).map_err(|error| {
        let text = format!("topology file {name} can't be read (accepted: a TOML file)");
        Error::new(ErrorKind::InvalidConfig, text).with_source(error)
    })?;
    parse_topology(&text).map_err(|error| {
        let text = format!("topology file {name} is not accepted");
        Error::new(error.kind().clone(), text).with_source(error)
    })
}

/// Reads a topology from TOML text.
///
/// # Errors
/// As [`read_topology`].
pub fn parse_topology(text: &str) -> Result<Topology> {
    let topology: Topology = toml::from_str(text).map_err(|error| {
        Error::new(ErrorKind::InvalidConfig, "it is no topology").with_source(error)
    })?;
    topology.validate()?;
    Ok(topology)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_file_replaces_the_streams_and_keeps_the_default_tiers() {
        let text = r#"
            [[stream]]
            name = "jobs"
            kind = "work"
            lanes = 3
            retention = "2h"

            [[group]]
            name = "runner"
            patterns = ["jobs.#"]
            ordered = true
        "#;
        let topology = parse_topology(text).unwrap();
        assert_eq!(topology.streams.len(), 1);
        assert_eq!(topology.streams[0].lanes.get(), 3);
        assert!(topology.groups[0].ordered);
        assert_eq!(topology.tiers, Topology::default().tiers);
    }

    #[test]
    fn the_example_is_a_topology() {
        let topology = parse_topology(include_str!("../../../examples/topology.toml")).unwrap();
        assert_eq!((topology.streams.len(), topology.groups.len()), (2, 3));
        assert_eq!(topology.tiers, Topology::default().tiers);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, part) in [
            ("[[stream]]\nname = \"a b\"\nkind = \"work\"", "a b"),
            ("[[stream]]\nname = \"a\"\nkind = \"queue\"", "queue"),
            ("[[stream]]\nname = \"a\"\nkind = \"log\"\ncolour = 1", "colour"),
            ("[[group]]\nname = \"g\"\npatterns = [\"nowhere.#\"]", "nowhere"),
            ("tiers = [\"2s\", \"1s\"]", "tiers"),
            ("tiers = [\"soon\"]", "soon"),
            ("[[", "topology"),
        ] {
            let error = parse_topology(text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        let missing = read_topology(Path::new("no/such/file.toml")).unwrap_err();
        assert!(missing.to_string().contains("no/such/file.toml"), "{missing}");
    }
}
