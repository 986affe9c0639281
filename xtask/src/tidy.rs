//! Checks of the tree that no compiler makes.

mod backends;
mod dependencies;
mod files;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cargo;

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    reason: String,
}

impl Finding {
    fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }
}

/// Runs every check and prints what they find.
pub(crate) fn run(bless: bool) -> Result<ExitCode, String> {
    let root = cargo::root();
    let mut findings = dependencies::check(&dependencies::of_workspace()?);
    findings.extend(files::check(&root)?);
    findings.extend(backends::check(&root)?);
    findings.extend(tables::check(&root, bless)?);
    for Finding { place, reason } in &findings {
        println!("{place}: {reason}");
    }
    println!("tidy: {} findings", findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files below a folder that end with `extension`, without build output.
fn files_below(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries {
            let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|known| known == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
