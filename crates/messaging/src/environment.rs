use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;

use messaging_core::{Error, ErrorKind, Result};

/// The variables that configure a connection. Its `Debug` shows names, never values.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, OsString>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        Self(std::env::vars_os().filter_map(named).collect())
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The value of a variable. Set to nothing is the same as unset.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a value that is not UTF-8; the value is not shown.
    pub fn get(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        value.to_str().map(Some).ok_or_else(|| {
            let text = format!("{name} is not UTF-8 (accepted: UTF-8 text)");
            Error::new(ErrorKind::InvalidConfig, text)
        })
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
