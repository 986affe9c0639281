//! An application that depends on core and one backend, and on nothing else of the project.

#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "an example; JSON reads null")]

use messaging_core::{Broker, Received, Result, Task, json};
use messaging_kafka::{Kafka, KafkaConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let kafka = Kafka::connect(KafkaConfig::from_env()?).await?;
    let broker = Broker::builder(kafka).open().await?;
    let worker = broker.worker("worker-1", ["tasks.#"]).spawn(handle).await?;
    broker.publish(&Task::new("completion", json!({ "model": "helix-ensemble" }))).await?;
    worker.settled(1).await?;
    println!("{}", worker.stop().await?);
    broker.close().await
}

async fn handle(task: Received<Task>) -> Result<()> {
    println!("{} attempt {}: {}", task.id, task.attempt(), task.payload["model"]);
    Ok(())
}
