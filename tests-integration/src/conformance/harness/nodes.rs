//! The brokers of a harness: one set for most cases, and others for cases that end or stop theirs.

use std::sync::{Arc, Mutex, PoisonError};

use xtask::brokers::Private;

/// What most cases have together.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Option<Arc<Private>>>);

impl Shared {
    /// The nodes, which are started for the first who asks.
    pub(super) fn get(
        &self,
        start: impl FnOnce() -> Result<Arc<Private>, String>,
    ) -> Result<Arc<Private>, String> {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nodes) = &*nodes {
            return Ok(Arc::clone(nodes));
        }
        Ok(Arc::clone(nodes.insert(start()?)))
    }
}

/// Makes every node do something at the same time: the last of a cluster can neither leave it nor
/// come back alone.
pub(super) fn each(
    nodes: &Private,
    call: impl Fn(&Private, &str) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let call = &call;
    std::thread::scope(|scope| {
        let all = nodes.servers().into_iter();
        let doing: Vec<_> = all.map(|node| scope.spawn(move || call(nodes, node))).collect();
        let done = doing.into_iter().map(std::thread::ScopedJoinHandle::join);
        done.into_iter().try_for_each(|it| it.unwrap_or_else(|_| Err("panic".to_owned())))
    })
}
