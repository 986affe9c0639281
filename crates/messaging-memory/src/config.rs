/// How much each stream keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The most messages of one stream.
    pub messages: usize,
    /// The most bytes of bodies, keys and headers of one stream; one message more may be kept.
    pub bytes: usize,
}

impl MemoryConfig {
    /// Sets the most messages of one stream, at least 1; 65,536 unless set.
    #[must_use]
    pub const fn messages(mut self, messages: usize) -> Self {
        self.messages = if messages == 0 { 1 } else { messages };
        self
    }

    /// Sets the most bytes of one stream; 64 MiB unless set.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { messages: 65_536, bytes: 64 * 1024 * 1024 }
    }
}
