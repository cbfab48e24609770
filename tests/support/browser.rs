//! A real browser: Debian's Chromium, without a window, driven through its own driver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use serde_json::{Value, json};

use crate::servers;
use crate::support::{DEADLINE, eventually};

pub(crate) struct Browser {
    pub(crate) page: Client,
    driver: Driver,
}

/// The process of the driver. It takes its browser with it.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// Whether pages may run JavaScript.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scripts {
    On,
    Off,
}

impl Browser {
    /// `None`, with a note, if there is no browser.
    pub(crate) async fn start(scripts: Scripts, width: u32, height: u32) -> Option<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                servers::missing("chromium", &format!("`chromedriver` cannot be started: {error}"));
                return None;
            }
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let driver = Driver(child);
        let started = "was started successfully on port ";
        let port: u16 = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once(started)?.1.trim_end_matches('.').parse().ok())
            .expect("the driver tells its port");
        // The driver goes on writing, and must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let preferences = match scripts {
            Scripts::On => json!({}),
            Scripts::Off => json!({"profile.managed_default_content_settings.javascript": 2}),
        };
        let wanted = json!({
            "goog:chromeOptions": {
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                    "--hide-scrollbars", "--force-device-scale-factor=1", format!("--window-size={width},{height}"),
                ],
                "prefs": preferences,
            },
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(wanted) = wanted else { unreachable!() };
        let address = format!("http://127.0.0.1:{port}");
        let mut client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let connected = client.capabilities(wanted).connect(&address);
        let page = tokio::time::timeout(DEADLINE * 2, connected).await.unwrap().unwrap();
        // The size of the window. A phone is narrower than a window may be: see `as_phone`.
        page.set_window_size(width, height).await.unwrap();
        Some(Self { page, driver })
    }

    pub(crate) async fn open(&self, url: &str) {
        self.page.goto(url).await.unwrap();
    }

    /// The element, once it is there.
    pub(crate) async fn find(&self, css: &str) -> Element {
        self.there(css, Locator::Css(css)).await
    }

    /// The link or button of that text, once it is there.
    pub(crate) async fn named(&self, text: &str) -> Element {
        let path = format!("//*[self::a or self::button or self::summary][normalize-space()='{text}']");
        self.there(text, Locator::XPath(&path)).await
    }

    async fn there(&self, what: &str, locator: Locator<'_>) -> Element {
        let asking = async {
            loop {
                if let Ok(element) = self.page.find(locator).await {
                    return element;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, asking).await {
            Ok(element) => element,
            Err(_) => {
                panic!("{:?} never has `{what}`, but\n{}", self.page.current_url().await, self.text().await)
            }
        }
    }

    pub(crate) async fn click(&self, text: &str) {
        // A live part of the page may be replaced between the search and the click.
        eventually(text, || async { self.named(text).await.click().await.ok() }).await;
    }

    pub(crate) async fn type_into(&self, css: &str, text: &str) {
        self.find(css).await.send_keys(text).await.unwrap();
    }

    pub(crate) async fn value(&self, css: &str) -> String {
        self.find(css).await.prop("value").await.unwrap().unwrap_or_default()
    }

    /// The text of the page, as people see it.
    pub(crate) async fn text(&self) -> String {
        match self.page.find(Locator::Css("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Waits until the page shows this text.
    pub(crate) async fn shows(&self, text: &str) {
        let last = std::sync::Mutex::new(String::new());
        let asking = async {
            loop {
                let seen = self.text().await;
                if seen.contains(text) {
                    return;
                }
                *last.lock().unwrap() = seen;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, asking).await.is_err() {
            let url = self.page.current_url().await;
            panic!("{url:?} never shows `{text}`, but\n{}", last.lock().unwrap());
        }
    }

    /// How many elements there are.
    pub(crate) async fn count(&self, css: &str) -> usize {
        self.page.find_all(Locator::Css(css)).await.unwrap().len()
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        self.page.execute(script, Vec::new()).await.unwrap()
    }

    /// Lays pages out as on a screen of that size.
    pub(crate) async fn as_phone(&self, width: u32, height: u32) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": true});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": screen});
        self.page.issue_cmd(Vendor("goog/cdp/execute", command)).await.unwrap();
    }

    pub(crate) async fn picture(&self) -> Vec<u8> {
        self.page.screenshot().await.unwrap()
    }

    /// The complaints of the browser since the last call: errors of scripts, refused loads, violations of the policy.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.page.issue_cmd(Vendor("se/log", json!({"type": "browser"}))).await.unwrap();
        let entries = log.as_array().cloned().unwrap_or_default();
        let is_bad = |entry: &&Value| entry["level"] != "INFO" && entry["level"] != "DEBUG";
        entries.iter().filter(is_bad).map(|entry| entry["message"].to_string()).collect()
    }

    pub(crate) async fn end(self) {
        let complaints = self.complaints().await;
        assert_eq!(complaints, Vec::<String>::new());
        self.page.close().await.unwrap();
        drop(self.driver);
    }
}

/// A command of this browser that is no part of the standard.
#[derive(Debug)]
struct Vendor(&'static str, Value);

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.1.to_string()))
    }
}
