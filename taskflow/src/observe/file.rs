//! An observer that appends lines to a file. It rotates the file, or follows another program that rotates it.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::line::{self, COLLECT};
use super::{Interest, Observer};
use crate::model::TaskEvent;

/// Appends each event to a file as one line of JSON, in the form of [`LogObserver`](super::LogObserver).
///
/// ```
/// use taskflow::TaskManager;
/// use taskflow::observe::FileObserver;
///
/// # fn main() -> Result<(), std::io::Error> {
/// # let directory = std::env::temp_dir().join(format!("taskflow-file-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("tasks.log");
/// // At most 11 files of 10 MB: `tasks.log`, `tasks.log.1` (the latest before it), .. `tasks.log.10`.
/// let log = FileObserver::open(&path)?.rotate(10_000_000, 10);
/// let builder = TaskManager::builder().observer(log);
/// # drop(builder);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok(())
/// # }
/// ```
///
/// Another program, such as logrotate, may rotate the file instead: when it has moved, removed or truncated the file, the next
/// line goes to the file that is then at the path. Several processes may append to one file, if none of them rotates it.
///
/// Lines are written as soon as no further event waits, so a line is in the file a moment after its event. A line that cannot
/// be written, for example because the disk is full, is dropped and counted ([`unwritten`](Self::unwritten)), and a warning
/// goes to the log. The next line is tried again.
#[derive(Debug)]
pub struct FileObserver {
    path: PathBuf,
    interest: Interest,
    rotation: Option<Rotation>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct Rotation {
    /// A file that would become larger than this is rotated first.
    bytes: u64,
    kept: u32,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    open: Option<Open>,
    unwritten: u64,
    /// Whether the last write was cut off within a line.
    is_torn: bool,
    is_failing: bool,
    /// After a rotation has failed, the size at which it is tried again.
    retry_at: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    /// The size when it was last checked.
    length: u64,
}

/// The identity of a file, which shows whether the path still leads to the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    /// Without an identity, the observer notices only a file that is gone or has become shorter.
    #[cfg(not(unix))]
    fn of(_: &Metadata) -> Self {
        Self(0, 0)
    }
}

impl FileObserver {
    /// Appends to this file, and makes it if it does not exist.
    ///
    /// # Errors
    /// When the file cannot be opened or made. The error names the path.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let open = Open::at(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let state = State { open: Some(open), ..State::default() };
        Ok(Self { path, interest: Interest::ALL, rotation: None, state: Mutex::new(state) })
    }

    /// Rotates the file before it becomes larger than `bytes`: it is renamed to the same name with `.1`, the former `.1` to
    /// `.2`, and so on. `kept` such files are kept; with 0, the file is emptied. A line longer than `bytes` has a file of its
    /// own.
    #[must_use]
    pub fn rotate(mut self, bytes: u64, kept: u32) -> Self {
        self.rotation = Some(Rotation { bytes: bytes.max(1), kept });
        self
    }

    /// Sets the events that it writes. Default: all.
    #[must_use]
    pub fn interest(mut self, interest: Interest) -> Self {
        self.interest = interest;
        self
    }

    /// How many lines were dropped because they could not be written. Share the observer in an [`Arc`](std::sync::Arc) to
    /// read it.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.state.lock().unwritten
    }

    /// Writes the collected lines, or counts those that could not be written.
    fn write_out(&self, state: &mut State) {
        let lines = std::mem::take(&mut state.lines);
        let mut rest = &*lines;
        while !rest.is_empty() {
            match self.write_some(state, rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    state.unwritten += rest.iter().filter(|byte| **byte == b'\n').count() as u64;
                    state.open = None;
                    if !std::mem::replace(&mut state.is_failing, true) {
                        tracing::warn!(
                            %error,
                            "events cannot be written to {}; they are dropped until this is possible again",
                            self.path.display()
                        );
                    }
                    break;
                }
            }
        }
        if rest.is_empty() && !lines.is_empty() && std::mem::take(&mut state.is_failing) {
            let path = self.path.display();
            tracing::info!(unwritten = state.unwritten, "events are written to {path} again");
        }
        // Reuse the memory, unless one large event has made it large.
        if lines.capacity() <= 2 * COLLECT {
            state.lines = lines;
            state.lines.clear();
        }
    }

    /// Writes the lines that the file has room for, and returns their bytes.
    fn write_some(&self, state: &mut State, lines: &[u8]) -> io::Result<usize> {
        let mut length = state.follow(&self.path)?;
        let mut fit = lines.len();
        if let Some(rotation) = self.rotation {
            fit = fitting(lines, rotation.bytes.saturating_sub(length));
            if fit == 0 && length > 0 && length >= state.retry_at {
                state.rotate(&self.path, rotation, length);
                length = state.follow(&self.path)?;
                fit = fitting(lines, rotation.bytes.saturating_sub(length));
            }
            if fit == 0 {
                // A line that is too long for any file, or a file that cannot be rotated now.
                fit = first_line(lines);
            }
        }
        let torn = std::mem::take(&mut state.is_torn);
        let open = state.open.as_mut().expect("it was opened above");
        let mut written = 0;
        let result = write_all(&mut open.file, if torn { b"\n" } else { b"" }, &mut 0)
            .and_then(|()| write_all(&mut open.file, &lines[..fit], &mut written));
        open.length = length + written as u64;
        match result {
            Ok(()) => Ok(fit),
            Err(error) => {
                let whole = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                state.is_torn = torn && written == 0 || whole < written;
                if whole > 0 { Ok(whole) } else { Err(error) }
            }
        }
    }
}

/// Like [`Write::write_all`]; `written` shows how many bytes were written before an error.
fn write_all(file: &mut File, mut bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                *written += count;
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The bytes of the whole lines that fit into `room`.
fn fitting(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1)
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { file, id: FileId::of(&metadata), length: metadata.len() })
    }
}

impl State {
    /// Opens the file that is at the path now, unless it is already open. Returns its size.
    fn follow(&mut self, path: &Path) -> io::Result<u64> {
        if let Some(open) = &mut self.open {
            match fs::metadata(path) {
                Ok(now) if FileId::of(&now) == open.id && (cfg!(unix) || now.len() >= open.length) => {
                    open.length = now.len();
                    return Ok(now.len());
                }
                // Another file, a shorter one, or none: somebody has rotated it.
                _ => {
                    self.open = None;
                    self.is_torn = false;
                    self.retry_at = 0;
                }
            }
        }
        let open = Open::at(path)?;
        let length = open.length;
        self.open = Some(open);
        Ok(length)
    }

    /// Rotates the file. If that fails, the file grows until the next try.
    fn rotate(&mut self, path: &Path, rotation: Rotation, length: u64) {
        // Some systems cannot rename an open file.
        self.open = None;
        match rotate(path, rotation.kept) {
            Ok(()) => {
                self.is_torn = false;
                self.retry_at = 0;
            }
            Err(error) => {
                self.retry_at = length.saturating_add(rotation.bytes);
                tracing::warn!(%error, "{} cannot be rotated; it grows further", path.display());
            }
        }
    }
}

fn rotate(path: &Path, kept: u32) -> io::Result<()> {
    if kept == 0 {
        return OpenOptions::new().write(true).truncate(true).open(path).map(drop);
    }
    // The first number that is free, or that of the file to be replaced.
    let mut free = 1;
    while free < kept && numbered(path, free).try_exists()? {
        free += 1;
    }
    for number in (1..free).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

impl Observer for FileObserver {
    fn on_event(&self, event: &TaskEvent) {
        let mut state = self.state.lock();
        line::append(&mut state.lines, event);
        if state.lines.len() >= COLLECT {
            self.write_out(&mut state);
        }
    }

    fn interest(&self) -> Interest {
        self.interest.clone()
    }

    fn flush(&self) {
        self.write_out(&mut self.state.lock());
    }
}
