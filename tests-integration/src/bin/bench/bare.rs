//! The bare channel that everything is compared with.

use std::time::Instant;

use messaging::{Bytes, Task};
use tokio::task::JoinSet;

/// How many messages may be under way, here and in our window.
pub(crate) const BOUND: usize = 8_192;

/// A body of 256 bytes, made anew.
pub(crate) fn body() -> Bytes {
    Bytes::from(vec![7_u8; 256])
}

/// Messages per second from `pairs` senders to as many receivers.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn bytes(pairs: usize, messages: usize) -> f64 {
    crate::runtime().block_on(async {
        let (sender, receiver) = async_channel::bounded::<Bytes>(BOUND);
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..pairs {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            tasks.spawn(async move {
                for _ in 0..messages / pairs {
                    sender.send(body()).await.unwrap();
                }
            });
            tasks.spawn(async move { while receiver.recv().await.is_ok() {} });
        }
        drop((sender, receiver));
        tasks.join_all().await;
        messages as f64 / began.elapsed().as_secs_f64()
    })
}

/// The same for tasks that are written and read as JSON.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn json(task: &Task, messages: usize) -> f64 {
    crate::runtime().block_on(async {
        let (sender, receiver) = async_channel::bounded::<Bytes>(BOUND);
        let task = task.clone();
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for _ in 0..messages {
                sender.send(serde_json::to_vec(&task).unwrap().into()).await.unwrap();
            }
        });
        tasks.spawn(async move {
            while let Ok(body) = receiver.recv().await {
                let task: Task = serde_json::from_slice(&body).unwrap();
                std::hint::black_box(task);
            }
        });
        tasks.join_all().await;
        messages as f64 / began.elapsed().as_secs_f64()
    })
}
