//! Chromium without a window, driven over its pipe (Chrome DevTools Protocol: JSON documents that end with a zero byte).

use base64::Engine;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const PROGRAM: &str = "/usr/bin/chromium";

/// A browser with one page.
pub struct Browser {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _profile: tempfile::TempDir,
    page: String,
    number: u64,
    /// What the page complained about, and what it wanted to load.
    pub complaints: Vec<String>,
}

impl Browser {
    /// Starts one; its pipe is descriptors 3 and 4.
    pub fn start() -> Browser {
        let profile = tempfile::tempdir().expect("a folder");
        let quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                     --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe";
        let mut process = Command::new("sh")
            .args(["-c", &format!("exec {PROGRAM} {quiet} \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1"), "sh"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromium");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let mut b = Browser {
            process,
            input,
            output,
            _profile: profile,
            page: String::new(),
            number: 0,
            complaints: Vec::new(),
        };
        let target = b.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let session = b.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        b.page = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            b.call(&format!("{domain}.enable"), json!({}));
        }
        b
    }

    /// Opens a file as a screen of this width shows it.
    pub fn open(&mut self, file: &Path, width: u32, dark: bool) {
        let screen = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", screen);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media);
        let url = format!("file://{}", file.display());
        self.complaints.clear();
        self.send("Page.navigate", json!({"url": url}));
        while self.receive()["method"] != "Page.loadEventFired" {}
        self.complaints.retain(|c| *c != format!("loads {url}"));
    }

    /// The value of an expression in the page.
    pub fn ask(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        assert!(answer.get("exceptionDetails").is_none(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// The page as a picture, as far down as it goes or as this height.
    pub fn picture(&mut self, most: Option<f64>) -> Vec<u8> {
        let size = self.ask("({width: innerWidth, height: document.documentElement.scrollHeight})");
        let height = size["height"].as_f64().expect("a height");
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": most.map_or(height, |m| m.min(height)), "scale": 1});
        let shot = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        self.decoded("Page.captureScreenshot", shot)
    }

    /// The page as it is printed.
    pub fn print(&mut self) -> Vec<u8> {
        self.decoded("Page.printToPDF", json!({"printBackground": true}))
    }

    fn decoded(&mut self, method: &str, params: Value) -> Vec<u8> {
        let answer = self.call(method, params);
        let data = answer["data"].as_str().expect("data");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let number = self.send(method, params);
        loop {
            let message = self.receive();
            if message["id"] == number {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": params});
        if !self.page.is_empty() {
            message["sessionId"] = self.page.clone().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).expect("to write to chromium");
        self.number
    }

    fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.output.read_until(0, &mut bytes).expect("to read from chromium");
        bytes.pop();
        let message: Value = serde_json::from_slice(&bytes).expect("chromium answers while it lives");
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.consoleAPICalled") => self.complaints.push(format!("console: {params}")),
            Some("Runtime.exceptionThrown") => self.complaints.push(format!("exception: {params}")),
            Some("Log.entryAdded") => self.complaints.push(format!("log: {params}")),
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with("data:") {
                    self.complaints.push(format!("loads {url}"));
                }
            }
            _ => {}
        }
        message
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // it may be gone already
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
