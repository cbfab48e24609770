//! The next version of a program, as a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::Place;

/// The program of `tests/deploys`, as a process.
pub(crate) struct NextVersion(Child);

impl NextVersion {
    pub(crate) fn start(place: &Place) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deployed"));
        command.arg(place.url()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "started");
        Self(child)
    }

    /// Lets the process shut down, and waits for its end.
    pub(crate) fn stop(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for NextVersion {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
