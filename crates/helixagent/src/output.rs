//! Standard output, written in whole pieces.

use std::io::{self, Read, Write};

use crate::exit::Failure;

/// Writes a piece and flushes it. A closed standard output is an error that says so.
pub(crate) fn write(piece: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(piece).and_then(|()| out.flush()).map_err(|error| failed(&error))
}

/// Copies a piece that may be larger than memory.
pub(crate) fn copy(piece: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    io::copy(piece, to)?;
    to.flush()
}

pub(crate) fn failed(error: &io::Error) -> Failure {
    Failure::unfinished(format!("standard output can't be written: {error}"))
}
