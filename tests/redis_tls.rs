//! Redis over TLS: a server is used if this machine trusts its authority, and refused otherwise.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use servers::redis::RedisServer;
use support::soon;
use taskflow::{Error, TaskManager, TaskStatus};

/// The store of the process that a test starts.
const URL: &str = "TASKFLOW_TEST_TLS_URL";

#[taskflow::task]
async fn double(n: u32) -> Result<u32, String> {
    Ok(n * 2)
}

/// The output of a separate process that uses this store and trusts only this authority. A process reads the authorities that it
/// trusts from its environment.
fn trusting(authority: &Path, url: &str) -> String {
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["--ignored", "--exact", "--nocapture", "the_process_that_a_test_starts"]);
    process.env("SSL_CERT_FILE", authority).env_remove("SSL_CERT_DIR").env(URL, url);
    let output = process.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other tests start it, in a process of its own"]
#[expect(clippy::print_stdout, reason = "the test that started it reads what it says")]
async fn the_process_that_a_test_starts() {
    let Ok(url) = env::var(URL) else { return };
    match TaskManager::builder().store(&url).start().await {
        Ok(tasks) => {
            let handle = tasks.add(double(21)).await.unwrap();
            println!("value {}", soon(handle.wait()).await.unwrap());
            println!("status {:?}", tasks.get(handle.id()).await.unwrap().unwrap().status);
            assert_eq!(tasks.health().store_errors, 0);
            tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        }
        Err(Error::Store(error)) => println!("refused: {error}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_server_with_a_certificate_of_a_trusted_authority_keeps_tasks_and_runs_them() {
    let Some(server) = RedisServer::start_with_tls() else { return };
    let said = trusting(&server.authority(), &server.tls_url());
    assert!(
        said.contains("value 42") && said.contains(&format!("status {:?}", TaskStatus::Success)),
        "{said}"
    );
    // The server has the tasks: its port without TLS shows that.
    assert!(server.ask(&["DBSIZE"]).unwrap().trim() != ":0");
}

#[test]
fn a_server_with_any_other_certificate_is_refused_with_the_remedy() {
    let Some(server) = RedisServer::start_with_tls() else { return };
    let Some(stranger) = RedisServer::start_with_tls() else { return };
    let said = trusting(&stranger.authority(), &server.tls_url());
    assert!(said.contains("refused: no TLS connection to `rediss://127.0.0.1:"), "{said}");
    assert!(said.contains("UnknownIssuer") && said.contains("`SSL_CERT_FILE`"), "{said}");
    assert_eq!(server.ask(&["DBSIZE"]).unwrap().trim(), ":0");

    // Its certificate is for 127.0.0.1.
    let said = trusting(&server.authority(), &server.tls_url().replace("127.0.0.1", "localhost"));
    assert!(said.contains("refused: no TLS connection"), "{said}");

    // A port without TLS.
    let said = trusting(&server.authority(), &server.url().replace("redis:", "rediss:"));
    assert!(said.contains("refused: ") && said.contains("`rediss://127.0.0.1:"), "{said}");
}
