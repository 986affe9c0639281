//! What commands print, passed on in whole pieces beside the progress bar.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Seek, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use tempfile::SpooledTempFile;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::exit::Failure;
use crate::output;

/// What a command prints beyond this goes to a temporary file.
const IN_MEMORY: usize = 1024 * 1024;

/// How much of the end is kept to find the last line in.
const TAIL: usize = 4 * 1024;

/// Everything that one command printed on one of its outputs.
#[derive(Debug, Default)]
pub(super) struct Piece {
    spool: Option<SpooledTempFile>,
    tail: VecDeque<u8>,
}

impl Piece {
    /// Takes everything until the output is closed.
    pub(super) async fn take(&mut self, from: Option<impl AsyncRead + Unpin>) -> io::Result<()> {
        let Some(mut from) = from else { return Ok(()) };
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            if from.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            let spool = self.spool.get_or_insert_with(|| SpooledTempFile::new(IN_MEMORY));
            spool.write_all(&buffer)?;
            self.tail.extend(&buffer);
            let surplus = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..surplus);
        }
    }

    /// The last line that is not blank.
    pub(super) fn last_line(&mut self) -> Option<String> {
        let tail = String::from_utf8_lossy(self.tail.make_contiguous()).into_owned();
        let last = tail.lines().map(str::trim).rfind(|line| !line.is_empty());
        last.map(str::to_owned)
    }

    fn copy(self, to: &mut impl Write) -> io::Result<()> {
        let Some(mut spool) = self.spool else { return Ok(()) };
        spool.rewind()?;
        output::copy(&mut spool, to)
    }
}

/// The way to our own outputs, one piece at a time.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    /// Held while a piece is written; `true` if standard output ends within a line.
    turn: Arc<Mutex<bool>>,
    bar: ProgressBar,
    broken: mpsc::Sender<Failure>,
}

impl Pieces {
    /// The way, and where it says that standard output can no longer be written.
    pub(super) fn new(counted: bool) -> (Self, mpsc::Receiver<Failure>) {
        let (broken, receiver) = mpsc::channel(1);
        let visible = counted && io::stderr().is_terminal();
        let bar = if visible { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {msg}") {
            bar.set_style(style);
        }
        (Self { turn: Arc::default(), bar, broken }, receiver)
    }

    /// Passes on what a command printed: first its output, then its errors.
    pub(super) fn pass_on(&self, out: Piece, err: Piece) {
        if out.spool.is_none() && err.spool.is_none() {
            return;
        }
        let mut within_line = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *within_line = out.tail.back().map_or(*within_line, |last| *last != b'\n');
        self.bar.suspend(|| {
            if let Err(error) = out.copy(&mut io::stdout().lock()) {
                // The first failure is enough to end the program.
                self.broken.try_send(output::failed(&error)).ok();
            }
            // Without a standard error there is nobody left to tell.
            err.copy(&mut io::stderr().lock()).ok();
        });
    }

    /// Prints a line on standard error.
    pub(super) fn say(&self, line: &str) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.bar.suspend(|| writeln!(io::stderr(), "{line}").ok());
    }

    /// Prints a line of its own on standard output, after everything else.
    pub(super) fn conclude(&self, line: &str) -> Result<(), Failure> {
        let within_line = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = if *within_line { "\n" } else { "" };
        output::write(format!("{begin}{line}\n").as_bytes())
    }

    pub(super) fn progress(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
