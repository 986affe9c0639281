//! Publishes a task and handles it, on the backend that `MESSAGING_BACKEND` names.
//!
//! `cargo run --package messaging --example quickstart`

#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "an example; JSON reads null")]

use messaging::{Received, Result, Task, json};

#[tokio::main]
async fn main() -> Result<()> {
    let broker = messaging::connect().await?;
    let worker = broker.worker("worker-1", ["tasks.#"]).spawn(handle).await?;
    let task = Task::new("completion", json!({ "model": "helix-ensemble" }));
    println!("confirmed: {}", broker.publish(&task).await?);
    worker.settled(1).await?;
    worker.stop().await?;
    broker.close().await
}

async fn handle(task: Received<Task>) -> Result<()> {
    println!("{} attempt {}: {}", task.id, task.attempt(), task.payload["model"]);
    Ok(())
}
