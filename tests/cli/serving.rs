//! `taskflow serve`, and its configuration.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::command::{Ran, aside, run, taskflow};
use crate::shop::{Shop, places};

/// A server that ends with the test.
pub(crate) struct Served {
    child: Child,
    address: String,
}

impl Served {
    pub(crate) fn start(url: &str, arguments: &[&str]) -> Self {
        let mut child = taskflow(url)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, address }
    }

    /// The status and the body of an answer.
    pub(crate) fn get(&self, path: &str, header: &str) -> (u16, String) {
        self.ask("GET", path, header, "")
    }

    /// The status and the body of the answer to a POST with a JSON body.
    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, String) {
        let header = format!(
            "Origin: http://{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        self.ask("POST", path, &header, body)
    }

    fn ask(&self, method: &str, path: &str, header: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{header}Connection: close\r\n\r\n{body}",
            self.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    pub(crate) fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_of_any_store_is_served_to_those_who_were_chosen() {
    for place in places() {
        let shop = Shop::open(place).await;
        let id = shop.failed_mail("a@example.com").await.to_string();
        let url = shop.url();
        aside(move || {
            run(&url, &["serve"])
                .exits(2)
                .says("choose who may use the dashboard")
                .says("--loopback")
                .says("--user");
            run(&url, &["serve", "--loopback", "--listen", "0.0.0.0:0"])
                .exits(2)
                .says("is not only this machine");
            run(&url, &["serve", "--user", "ada:s3cret"])
                .exits(2)
                .says("`--user` number 1 is not NAME:HASH:ROLE");
            let wrong =
                run(&url, &["serve", "--user", "ada:s3cret:admin"]).exits(2).says("not an argon2 hash");
            assert!(!wrong.err.contains("s3cret"), "{wrong:?}");
            run(&url, &["serve", "--token-file", "/nonexistent/tokens"]).exits(2).says("cannot read");

            let served = Served::start(&url, &["--loopback", "--title", "the shop"]);
            let (status, page) = served.get(&format!("/tasks/{id}"), "");
            assert!(
                status == 200 && page.contains("connection refused") && page.contains("the shop"),
                "{page}"
            );
            assert_eq!(served.get("/api/v1/overview", "").0, 200);
            served.end();

            let token = run(&url, &["token", "--json"]).exits(0).json();
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("programs");
            let line = format!("# programs\n\ngrafana:{}:viewer\n", token["sha256"].as_str().unwrap());
            std::fs::write(&file, line).unwrap();
            let served = Served::start(&url, &["--token-file", file.to_str().unwrap()]);
            assert_eq!(served.get("/api/v1/overview", "").0, 401);
            let header = format!("Authorization: Bearer {}\r\n", token["token"].as_str().unwrap());
            assert_eq!(served.get("/api/v1/overview", &header).0, 200);
            served.end();
        })
        .await;
        shop.close().await;
    }
}

#[test]
fn a_password_is_read_from_a_pipe_and_hashed() {
    let mut child = taskflow("")
        .arg("password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let ran = Ran::of(&["password"], child.wait_with_output().unwrap()).exits(0);
    assert!(ran.out.starts_with("$argon2id$v=19$"), "{ran:?}");
    run("", &["password"]).exits(2).says("the password is empty");
}
