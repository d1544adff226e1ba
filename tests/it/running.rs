//! A run of the binary: what it is given, what it says, and what it comes to.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

/// How long anything may take that a test waits for, on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

/// Waits until something is so. It fails when that does not come: a test that waits for ever says nothing.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a run of the binary came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) messages: Vec<Value>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The most memory the process had, in KiB.
    pub(crate) peak_kib: u64,
}

/// A run that goes on.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: std::thread::JoinHandle<()>,
    stderr: std::thread::JoinHandle<String>,
    /// What is on stdout so far.
    seen: Arc<Mutex<Vec<u8>>>,
    /// Set when nobody shall read stdout any more.
    deaf: Arc<AtomicBool>,
    files: tempfile::TempDir,
}

impl Running {
    pub(crate) fn new(mut command: Command, files: tempfile::TempDir) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (out, text) = (child.stdout.take().unwrap(), Arc::clone(&seen));
        let deaf = Arc::new(AtomicBool::new(false));
        let is_deaf = Arc::clone(&deaf);
        let stdout = std::thread::spawn(move || {
            let (mut from, mut chunk) = (out, [0; 65536]);
            while !is_deaf.load(Ordering::Acquire) {
                let mut ready = [PollFd::new(&from, PollFlags::IN)];
                let soon = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
                if poll(&mut ready, Some(&soon)).unwrap_or(1) == 0 {
                    continue;
                }
                match from.read(&mut chunk).unwrap() {
                    0 => return,
                    length => text.lock().unwrap().extend(&chunk[..length]),
                }
            }
        });
        let mut error = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            error.read_to_string(&mut text).unwrap();
            text
        });
        Self { stdin: child.stdin.take(), child, stdout, stderr, seen, deaf, files }
    }

    /// Writes to standard input. That the binary has ended is seen elsewhere.
    pub(crate) fn feed(&mut self, input: &str) {
        self.feed_bytes(input.as_bytes());
    }

    pub(crate) fn feed_bytes(&mut self, input: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            drop(stdin.write_all(input));
        }
    }

    /// Waits until so many states are out.
    #[track_caller]
    pub(crate) fn wait_for_states(&self, states: usize, limit: Duration) {
        self.wait_for_log("\"type\":\"STATE\"", states, limit);
    }

    /// Waits until so many lines with a text are out.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str, lines: usize, limit: Duration) {
        let begun = Instant::now();
        loop {
            let seen = String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned();
            if seen.split_inclusive('\n').filter(|line| line.contains(text) && line.ends_with('\n')).count() >= lines {
                return;
            }
            assert!(begun.elapsed() < limit, "not {lines} times {text}: {seen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes all input in the background and closes it: a connector that is held up does not take it all.
    pub(crate) fn feed_all(&mut self, input: String) {
        if let Some(mut stdin) = self.stdin.take() {
            std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal_if_alive(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).output();
        drop(kill.unwrap());
    }

    /// Nobody reads any more.
    pub(crate) fn close_stdout(&self) {
        self.deaf.store(true, Ordering::Release);
        std::thread::sleep(Duration::from_millis(30));
    }

    /// Waits for the end while standard input stays open.
    pub(crate) fn wait(mut self) -> Ran {
        let stdin = self.stdin.take();
        let ran = self.end();
        drop(stdin);
        ran
    }

    pub(crate) fn kill(mut self) -> Ran {
        self.child.kill().unwrap();
        self.end()
    }

    /// Closes standard input and waits for the end.
    pub(crate) fn end(mut self) -> Ran {
        drop(self.stdin.take());
        let mut peak_kib = 0;
        let begun = Instant::now();
        let status = loop {
            // The peak is gone with the process, so it is looked at as long as there is one.
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let seen = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak_kib = peak_kib.max(seen.unwrap_or(0));
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(240) {
                drop(self.child.kill());
                panic!("the connector hangs");
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        self.stdout.join().unwrap();
        let mut stdout = String::from_utf8(std::mem::take(&mut *self.seen.lock().unwrap())).unwrap();
        if self.deaf.load(Ordering::Acquire) || status.code().is_none() {
            // Who is killed or not listened to, may be cut off within a line.
            stdout.truncate(stdout.rfind('\n').map_or(0, |end| end + 1));
        }
        let messages = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        drop(self.files);
        Ran { code: status.code(), messages, stdout, stderr: self.stderr.join().unwrap(), peak_kib }
    }
}

impl Ran {
    /// The states that came back, as `state` objects.
    pub(crate) fn states(&self) -> Vec<&Value> {
        self.messages.iter().filter(|m| m["type"] == "STATE").map(|m| &m["state"]).collect()
    }

    /// Their ids.
    pub(crate) fn state_ids(&self) -> Vec<i64> {
        self.states().iter().map(|state| state["id"].as_i64().unwrap()).collect()
    }

    /// The one ERROR trace: failure type and message.
    #[track_caller]
    pub(crate) fn error(&self) -> (String, String) {
        let traces: Vec<&Value> = self.messages.iter().filter(|m| m["trace"]["type"] == "ERROR").collect();
        assert_eq!(traces.len(), 1, "{}", self.stdout);
        let error = &traces[0]["trace"]["error"];
        (error["failure_type"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }

    /// Status and message of a check.
    #[track_caller]
    pub(crate) fn status(&self) -> (String, String) {
        let last = self.messages.last().unwrap();
        assert_eq!(last["type"], "CONNECTION_STATUS", "{}", self.stdout);
        let status = &last["connectionStatus"];
        let text = status["message"].as_str().unwrap_or_default().to_owned();
        (status["status"].as_str().unwrap().to_owned(), text)
    }

    /// Messages of LOGs at a level.
    pub(crate) fn logs(&self, level: &str) -> Vec<&str> {
        let logs = self.messages.iter().filter(|m| m["type"] == "LOG" && m["log"]["level"] == level);
        logs.map(|m| m["log"]["message"].as_str().unwrap()).collect()
    }
}
