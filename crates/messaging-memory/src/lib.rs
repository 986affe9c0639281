//! The in-memory backend: every group, order and retry of the layer, within one process.
//!
//! It is the default backend and the executable specification of the
//! [driver contract](messaging_core::driver). Nothing survives the process.
//!
//! ```
//! use messaging_core::{Broker, Received, Result, Task, json};
//! use messaging_memory::Memory;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let broker = Broker::builder(Memory::new()).open().await?;
//! let worker = broker.worker("worker-1", ["tasks.#"]).spawn(handle).await?;
//! broker.publish(&Task::new("completion", json!({ "model": "helix-ensemble" }))).await?;
//! worker.settled(1).await?;
//! worker.stop().await?;
//! broker.close().await
//! # }
//!
//! async fn handle(task: Received<Task>) -> Result<()> {
//!     println!("{} attempt {}", task.id, task.attempt());
//!     Ok(())
//! }
//! ```
//!
//! # Rooms
//! `store` holds the state behind one lock: `log` (what a stream keeps), `stream` (its bound),
//! `group` (who has what in hand), `queue` and `lanes` (which message is next, without and with
//! order). `sender`, `subscription`, `settle` and `admin` are the driver's doors to it.

mod admin;
mod config;
mod driver;
mod error;
mod sender;
mod settle;
mod store;
mod subscription;

pub use crate::config::MemoryConfig;
pub use crate::driver::Memory;
