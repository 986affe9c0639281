//! How clients find brokers.

use super::Brokers;
use super::recipe::recipe;

impl Brokers {
    /// The variables under which clients find them.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let env = recipe(self.kind()).env(self);
        env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// One of these variables, if there is such a one.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.env().into_iter().find_map(|(known, value)| (known == name).then_some(value))
    }
}
