//! Tables in documents that are generated from code.

use std::path::Path;

use super::Finding;
use crate::cargo::Cargo;

const BEGIN: &str = "<!-- capabilities:begin -->\n";
const END: &str = "<!-- capabilities:end -->";

/// Compares the README's capability table with what the backends say, or rewrites it.
pub(super) fn check(root: &Path, bless: bool) -> Result<Vec<Finding>, String> {
    let place = "README.md";
    let path = root.join(place);
    let readme = std::fs::read_to_string(&path).map_err(|e| format!("{place}: {e}"))?;
    let table =
        Cargo::run(["run", "--quiet", "--package", "tests-integration", "--bin", "capabilities"])
            .output()?;
    let Some(wanted) = with_table(&readme, &table) else {
        return Ok(vec![Finding::new(place, "the marks of the capability table are missing")]);
    };
    if wanted == readme {
        return Ok(Vec::new());
    }
    if bless {
        std::fs::write(&path, wanted).map_err(|e| format!("{place}: {e}"))?;
        return Ok(Vec::new());
    }
    let reason = "its capability table is out of date; run cargo xtask tidy --bless";
    Ok(vec![Finding::new(place, reason)])
}

fn with_table(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_between_the_marks_is_replaced() {
        let readme = format!("a\n{BEGIN}old\n{END}\nb\n");
        assert_eq!(with_table(&readme, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}\nb\n"));
        assert!(with_table("no marks", "new\n").is_none());
    }
}
