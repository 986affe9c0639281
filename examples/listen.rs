//! The twin of the quick start for at-most-once reception: hears an event, and sees its losses.
//!
//! `cargo run --package messaging --example listen`

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use messaging::{Event, Heard, Result, SubscribeSpec, json};

#[tokio::main]
async fn main() -> Result<()> {
    let broker = messaging::connect().await?;
    let mut listener = broker.listen::<Event>(SubscribeSpec::broadcast(["events.#"])?).await?;
    let event = Event::new("debate.round.completed", "debate-service", json!({ "round": 2 }));
    println!("confirmed: {}", broker.publish(&event).await?);
    match listener.next().await.transpose()? {
        Some(Heard::Message(event)) => {
            println!("{} from {}: {}", event.id, event.source, event.data)
        }
        Some(Heard::Gap(gap)) => println!("missed {:?}: {}", gap.missed, gap.reason),
        _ => println!("the subscription ended"),
    }
    broker.close().await
}
