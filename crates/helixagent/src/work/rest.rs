//! What was not finished: named line by line, and written for another run.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use messaging::Bytes;

use super::feed::Unread;
use super::track::Unfinished;
use crate::exit::Failure;
use crate::lines::Source;

/// The file for unfinished lines, if one was asked for. It is created before any work is done.
pub(super) struct Rest(Option<(PathBuf, File)>);

impl Rest {
    pub(super) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let create = |path: &Path| match File::create(path) {
            Ok(file) => Ok((path.to_owned(), file)),
            Err(error) => Err(Failure::usage(format!("--rest {}: {error}", path.display()))),
        };
        path.map(create).transpose().map(Self)
    }

    /// Names every unfinished line on standard error and writes it, in the order of the file.
    pub(super) fn write(
        self,
        source: &Option<Source>,
        open: Vec<Unfinished>,
        unread: Vec<Unread>,
    ) -> Result<(), Failure> {
        let Some(source) = source else { return Ok(()) };
        let name = source.name();
        let mut err = io::stderr().lock();
        for Unfinished { line, state, .. } in &open {
            writeln!(err, "{name}:{line}: {state}").ok();
        }
        if let (Some(first), Some(last)) = (unread.first(), unread.last()) {
            writeln!(err, "{name}:{}: not published, up to line {}", first.line, last.line).ok();
        }
        let Some((path, file)) = self.0 else { return Ok(()) };
        let lines = open.into_iter().map(|open| open.bytes);
        write_lines(file, lines.chain(unread.into_iter().map(|unread| unread.bytes)))
            .map_err(|error| Failure::unfinished(format!("--rest {}: {error}", path.display())))
    }
}

fn write_lines(file: File, lines: impl Iterator<Item = Bytes>) -> io::Result<()> {
    let mut writer = BufWriter::new(file);
    for line in lines {
        writer.write_all(&line)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()
}
