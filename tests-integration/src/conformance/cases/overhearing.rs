#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use messaging::{Bytes, Event, SendSpec, json};
use tokio::runtime::Handle;

use super::cases;
use crate::conformance::server::Foreign;
use crate::conformance::stage::{Stage, hear, listen, text};

cases! {
    what_the_brokers_own_tool_publishes_is_heard [] [Listen] Shared;
    what_we_publish_is_heard_by_the_brokers_own_tool [] [Listen] Shared;
    what_a_python_program_publishes_is_heard [] [Listen] Shared;
    what_we_publish_is_heard_by_a_python_program [] [Listen] Shared;
}

async fn what_the_brokers_own_tool_publishes_is_heard(stage: Stage) {
    is_heard(&stage, Foreign::Tool).await;
}

async fn what_we_publish_is_heard_by_the_brokers_own_tool(stage: Stage) {
    is_overheard(&stage, Foreign::Tool).await;
}

async fn what_a_python_program_publishes_is_heard(stage: Stage) {
    is_heard(&stage, Foreign::Python).await;
}

async fn what_we_publish_is_heard_by_a_python_program(stage: Stage) {
    is_overheard(&stage, Foreign::Python).await;
}

/// A body alone makes a message, and its JSON what that says.
async fn is_heard(stage: &Stage, client: Foreign) {
    stage.needs_client(client).await;
    let broker = stage.broker().await;
    let mut plain = listen::<Bytes>(&broker, &["debates.#"]).await;
    let mut events = listen::<Event>(&broker, &["debates.debate.round"]).await;
    let event = Event::new("debate.round", "theirs", json!({ "text": "Grüße", "n": 1.5 }));
    let typed = serde_json::to_string(&event).unwrap();
    for (subject, body) in [("debates.debate.round", &*typed), ("debates", "no JSON at all: é")] {
        let theirs = body.to_owned();
        stage.server().run(move |server| server.write(client, subject, &theirs)).await;
        let heard = hear(&mut plain).await;
        assert_eq!((&*heard.message().subject, text(&heard)), (subject, body.to_owned()));
    }
    assert_eq!(*hear(&mut events).await, event);
}

/// The body of a typed message is its JSON and nothing else.
async fn is_overheard(stage: &Stage, client: Foreign) {
    stage.needs_client(client).await;
    let broker = stage.broker().await;
    let publisher = broker.publisher::<Event>(SendSpec::to("debates").unwrap()).await.unwrap();
    let event = Event::new("debate.round", "ours", json!({ "text": "Grüße", "n": 1 }));
    let (sent, runtime) = (event.clone(), Handle::current());
    let overheard = stage.server().run(move |server| {
        let publish = || {
            runtime.block_on(publisher.publish(&sent)).unwrap();
        };
        server.overhear(client, "debates.debate.round", 1, &publish)
    });
    let read: Vec<serde_json::Value> =
        overheard.await.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(read, [serde_json::to_value(&event).unwrap()]);
}
