//! What happens to data when a disk is lost.

use std::fs;

use super::{Brokers, Kind};

impl Brokers {
    /// Removes the data of a RabbitMQ node that has ended, as a lost disk would.
    ///
    /// # Errors
    ///
    /// When there is no such node, it runs, or its data can't be removed.
    pub fn forget(&self, node: &str) -> Result<(), String> {
        let node = self.node(node)?;
        // The server's own helpers may outlive it for a moment; they write nothing.
        if self.kind() != Kind::RabbitMq || self.process(node).pid().is_some() {
            return Err(format!("{}: only a RabbitMQ node that has ended can forget", node.name));
        }
        let data = self.dir_of(node).join("data");
        fs::remove_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))
    }
}
