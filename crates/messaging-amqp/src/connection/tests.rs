//! Against a real server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::*;

fn config() -> Option<Arc<RabbitConfig>> {
    let url = std::env::var("RABBITMQ_URL").ok()?;
    Some(Arc::new(RabbitConfig::from_url(&url).unwrap()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_connects_and_heals() {
    let Some(config) = config() else { return };
    let link = Link::open(config, Role::Consume).await.unwrap();
    let session = link.session(soon()).await.unwrap();
    let (channel, mut events) = session.channel(soon()).await.unwrap();
    let queue = Queue { exclusive: true, ..Queue::default() };
    let declared = channel.declare_queue(queue, soon()).await.unwrap();
    println!("{declared:?}");
    let fault = channel.find_queue("nix", soon()).await.unwrap_err();
    println!("{fault:?}");
    println!("{:?}", events.recv().await);
    println!("{:?}", events.recv().await);
    session.end("test");
    let again = link.session(soon()).await.unwrap();
    println!("{again:?}");
    link.close(Duration::from_secs(2)).await;
    println!("{:?}", link.session(soon()).await);
}
