//! Configuration that comes as variables: what every backend reads, and refuses, in the same way.
//!
//! A source gives the value of a variable by its name, and nothing where it is unset. No error shows
//! a value: it may hold a password.

use std::env::VarError;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Reads a variable of this process.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] where the value is not UTF-8.
pub fn of_process(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(invalid(name, "it is not UTF-8", "UTF-8")),
    }
}

/// Says what is wrong with a variable, and what would be right.
#[must_use]
pub fn invalid(name: &str, reason: &str, accepted: &str) -> Error {
    let text = format!("{name}: {reason} (accepted: {accepted})");
    Error::new(ErrorKind::InvalidConfig, text)
}

/// Reads a number.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] where it is none of that type, and those of the source.
pub fn number<T: FromStr>(
    get: &impl Fn(&str) -> Result<Option<String>>,
    name: &str,
    accepted: &str,
) -> Result<Option<T>> {
    let parse = |text: String| text.parse().map_err(|_| invalid(name, "it is no number", accepted));
    get(name)?.map(parse).transpose()
}

/// Reads a comma-separated list; a comma at the end is no entry. Nothing where an entry can't be read
/// or there is none.
pub fn list<T>(text: &str, entry: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let all: Option<Vec<T>> = entries.map(entry).collect();
    all.filter(|all| !all.is_empty())
}

/// Files with certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificates {
    /// What to trust, in place of the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Certificates {
    /// Reads `PREFIX_TLS_CA`, `PREFIX_TLS_CERT` and `PREFIX_TLS_KEY`; `with` says what switches TLS on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a certificate without its key, or one that has no meaning as
    /// TLS is off, and those of the source.
    pub fn read(
        get: &impl Fn(&str) -> Result<Option<String>>,
        prefix: &str,
        is_on: bool,
        with: &str,
    ) -> Result<Self> {
        let file =
            |what: &str| get(&format!("{prefix}_TLS_{what}")).map(|it| it.map(PathBuf::from));
        let ca = file("CA")?;
        let client = match (file("CERT")?, file("KEY")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                let names = format!("{prefix}_TLS_CERT and {prefix}_TLS_KEY");
                let reason = "a certificate and its key belong together";
                return Err(invalid(&names, reason, "both or none"));
            }
        };
        if !is_on && (ca.is_some() || client.is_some()) {
            let names = format!("{prefix}_TLS_CA, {prefix}_TLS_CERT");
            let reason = "TLS is off, so certificates have no meaning";
            return Err(invalid(&names, reason, with));
        }
        Ok(Self { ca, client })
    }
}
