//! Pipes, signals and terminals.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{aside, run, table, taskflow};
use crate::servers::missing;
use crate::shop::{Shop, places};
use crate::support::soon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_has_seen_enough_is_no_error() {
    for place in places() {
        let shop = Shop::open(place).await;
        shop.tasks.pause_queue("slow").await.unwrap();
        soon(shop.tasks.add_all((0..2000).map(|n| crate::shop::new_import(&shop.tasks, n)))).await.unwrap();
        for arguments in
            [&["export"][..], &["list", "--limit", "2000"], &["list", "--limit", "2000", "--ndjson"]]
        {
            let mut child = taskflow(&shop.url())
                .args(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut out = child.stdout.take().unwrap();
            let output = aside(move || {
                out.read_exact(&mut [0; 10]).unwrap();
                drop(out);
                child.wait_with_output().unwrap()
            });
            let output = output.await;
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
        }
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_is_quiet() {
    for place in places() {
        let shop = Shop::open(place).await;
        let id = shop.import(1).await.to_string();
        for arguments in [&["logs", "-f", &id][..], &["wait", &id], &["status", "--watch"]] {
            let mut child = taskflow(&shop.url())
                .args(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // The first line shows that the command has begun. `wait` prints none before the end.
            let mut out = child.stdout.take().unwrap();
            let begins = arguments[0] != "wait";
            let pid = Pid::from_child(&child);
            let output = aside(move || {
                if begins {
                    out.read_exact(&mut [0; 4]).unwrap();
                }
                kill_process(pid, Signal::INT).unwrap();
                child.wait_with_output().unwrap()
            });
            let output = output.await;
            assert!(!output.status.success());
            assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
        }
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_tasks_do_not_control_the_terminal() {
    for place in places() {
        let shop = Shop::open(place).await;
        let id = shop.failed_mail("\u{1b}]0;owned\u{7}\u{1b}[2J@example.com").await.to_string();
        let url = shop.url();
        aside(move || {
            let actor = "\u{1b}[31meve";
            run(&url, &["retry", &id, "--actor", actor]).exits(0);
            // It is among the failures again.
            run(&url, &["wait", &id]).exits(1);
            for arguments in
                [&["show", &id][..], &["logs", &id], &["list"], &["audit"], &["failures"], &["status"]]
            {
                let ran = table(&url, arguments).exits(0);
                assert!(!ran.out.contains('\u{1b}') && !ran.out.contains('\u{7}'), "{ran:?}");
                let ran = table(&url, &[arguments, &["--color", "always"]].concat()).exits(0);
                assert!(
                    ran.out.contains("\u{1b}[")
                        && !ran.out.contains("\u{1b}]0")
                        && !ran.out.contains("\u{1b}[2J"),
                    "{ran:?}"
                );
            }
        })
        .await;
        shop.close().await;
    }
}

#[test]
fn each_verb_has_an_example_and_each_shell_its_completions() {
    let help = run("", &["--help"]).exits(0);
    let after = help.out.split("Commands:").nth(1).unwrap().split("Options").next().unwrap();
    let verbs: Vec<_> = after
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .filter(|verb| *verb != "help")
        .collect();
    assert!(verbs.len() >= 22, "{verbs:?}");
    for verb in verbs {
        let output = taskflow("").env("COLUMNS", "80").args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Example"), "{verb}: {help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "`taskflow {verb} --help` is wider than a terminal: {line}");
        }
    }
    for (verb, below) in
        [("queues", ["pause", "resume", "set", "reset"]), ("schedules", ["run", "pause", "resume", "remove"])]
    {
        for one in below {
            assert!(run("", &[verb, one, "--help"]).exits(0).out.contains("Example"), "{verb} {one}");
        }
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(run("", &["completions", shell]).exits(0).out.contains("taskflow"), "{shell}");
    }
}

/// A disk of 2 MB.
pub(crate) struct Disk(tempfile::TempDir);

impl Disk {
    /// `None`, with a note, if this process may not mount.
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            missing("mount", "nothing may be mounted here");
            return None;
        }
        Some(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes the file system read-only. No file may be open for writing.
    pub(crate) fn only_reads(&self) -> bool {
        let output = Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).output();
        output.is_ok_and(|output| output.status.success())
    }

    /// Fills the disk.
    pub(crate) fn fill(&self) {
        let path: PathBuf = self.path().join("ballast");
        let mut file = std::fs::File::create(path).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).output();
    }
}
