use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use messaging::{Error, ErrorKind};

use crate::conformance::{Connecting, Foreign, Server};

/// A server that can be gone and back, and nothing else.
#[derive(Clone, Debug, Default)]
pub(super) struct BrokenServer(Arc<AtomicBool>);

const NOTHING_ELSE: &str = "this server can only be gone and back";

impl BrokenServer {
    pub(super) fn is_gone(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn refuse() -> Connecting {
        async { Err(Error::new(ErrorKind::Unavailable, NOTHING_ELSE)) }.boxed()
    }
}

impl Server for BrokenServer {
    fn kill(&self) -> Result<(), String> {
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn stop(&self) -> Result<(), String> {
        self.kill()
    }

    fn start(&self) -> Result<(), String> {
        self.0.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn pause(&self) -> Result<(), String> {
        self.kill()
    }

    fn resume(&self) -> Result<(), String> {
        self.start()
    }

    fn has(&self, _: Foreign) -> Result<(), String> {
        Err(NOTHING_ELSE.to_owned())
    }

    fn libraries(&self) -> &'static [&'static str] {
        &[]
    }

    fn write(&self, _: Foreign, _: &str, _: &str) -> Result<(), String> {
        Err(NOTHING_ELSE.to_owned())
    }

    fn read(&self, _: Foreign, _: &str) -> Result<Vec<String>, String> {
        Err(NOTHING_ELSE.to_owned())
    }

    fn forget_group(&self, _: &str, _: &str) -> Result<(), String> {
        Err(NOTHING_ELSE.to_owned())
    }

    fn forget_stream(&self, _: &str) -> Result<(), String> {
        Err(NOTHING_ELSE.to_owned())
    }

    fn trim(&self, _: &str) -> Result<(), String> {
        Err(NOTHING_ELSE.to_owned())
    }

    fn password(&self) -> String {
        String::new()
    }

    fn with_password(&self, _: &str) -> Connecting {
        Self::refuse()
    }

    fn to_nobody(&self) -> (Connecting, String) {
        (Self::refuse(), String::new())
    }

    fn impatiently(&self) -> Connecting {
        Self::refuse()
    }

    fn variables(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
