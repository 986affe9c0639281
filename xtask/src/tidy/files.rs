//! Length, names and endings of source files.

use std::path::Path;

use super::{Finding, files_below};

/// The most lines of a source file.
const MOST_LINES: usize = 400;

/// Names that say nothing about what is inside.
const VAGUE: [&str; 5] = ["utils.rs", "helpers.rs", "common.rs", "types.rs", "mod.rs"];

pub(super) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for path in files_below(root, "rs")?.into_iter().chain(files_below(root, "md")?) {
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        findings.extend(check_file(&place, &text));
    }
    Ok(findings)
}

fn check_file(place: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = place.rsplit('/').next().unwrap_or(place);
    // prost names the generated file after the package.
    let is_generated = name.contains(".v1.rs");
    let is_code = name.ends_with(".rs") && !is_generated;
    let lines = text.lines().count();
    if is_code && lines > MOST_LINES {
        findings.push(Finding::new(place, format!("{lines} lines, the most is {MOST_LINES}")));
    }
    if VAGUE.contains(&name) {
        findings.push(Finding::new(place, "its name says nothing about what is inside"));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(place, "its last line does not end"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with(' ') || line.ends_with('\t') {
            findings.push(Finding::new(format!("{place}:{number}"), "trailing white space"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(place: &str, text: &str) -> Vec<String> {
        check_file(place, text).into_iter().map(|finding| finding.reason).collect()
    }

    #[test]
    fn long_vague_and_untidy_files_are_found() {
        assert!(reasons("src/log.rs", "fn a() {}\n").is_empty());
        assert!(reasons("src/log.rs", &"//\n".repeat(401))[0].contains("401 lines"));
        assert!(reasons("src/utils.rs", "\n")[0].contains("says nothing"));
        assert!(reasons("README.md", "text")[0].contains("does not end"));
        assert!(reasons("README.md", "text \n")[0].contains("white space"));
        assert!(reasons("src/a.v1.rs", &"//\n".repeat(401)).is_empty());
    }
}
