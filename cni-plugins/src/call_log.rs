//! `CNI_LOG`: one line for each call, to find out where time goes and what a runtime really asks.
//!
//! `CNI_LOG=stderr` writes to standard error, any other value is a file to append to; a single write of a line keeps lines of
//! calls at the same time apart. The line is a JSON object:
//!
//! ```json
//! {"time_ms":1763712000123,"plugin":"bridge","command":"ADD","container":"c1","ifname":"eth0","netns":"/run/netns/x",
//!  "ok":true,"us":4100,"steps":[{"step":"make the veth pair","us":900,"ok":true}]}
//! ```
//!
//! Steps come in the order in which they ended. A failed call has `"error"` with what it answered. A log that cannot be
//! written is told on standard error and is no reason to fail.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::step::{self, Taken};

/// The variable that switches the log on.
pub const VARIABLE: &str = "CNI_LOG";

/// A call under way whose line will be written.
pub struct CallLog {
    place: String,
    began: Instant,
    about: Value,
}

impl CallLog {
    /// Begins a line if the variables ask for one.
    pub fn begin(plugin: &str, variables: &BTreeMap<String, String>) -> Option<Self> {
        let place = variables.get(VARIABLE).filter(|place| !place.is_empty())?.clone();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let get = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        let about = json!({
            "time_ms": u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            "plugin": plugin,
            "command": get("CNI_COMMAND"),
            "container": get("CNI_CONTAINERID"),
            "ifname": get("CNI_IFNAME"),
            "netns": get("CNI_NETNS"),
        });
        Some(Self { place, began: Instant::now(), about })
    }

    /// Writes the line. `answer` is what the call printed.
    pub fn end(self, exit_code: u8, answer: &[u8]) {
        let time = self.began.elapsed();
        let line = line(self.about, time, &step::take_all(), exit_code, answer);
        if let Err(error) = write(&self.place, &line) {
            eprintln!("cannot write the call log {VARIABLE}={}: {error}", self.place);
        }
    }
}

fn line(mut about: Value, time: Duration, steps: &[Taken], exit_code: u8, answer: &[u8]) -> String {
    let steps: Vec<_> = steps
        .iter()
        .map(|taken| json!({ "step": taken.name, "us": micros(taken.time), "ok": taken.ok }))
        .collect();
    about["ok"] = (exit_code == 0).into();
    about["us"] = micros(time).into();
    about["steps"] = steps.into();
    if exit_code != 0 {
        about["error"] = serde_json::from_slice(answer).unwrap_or_default();
    }
    format!("{about}\n")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn write(place: &str, line: &str) -> io::Result<()> {
    if place == "stderr" {
        return io::stderr().write_all(line.as_bytes());
    }
    OpenOptions::new().append(true).create(true).open(place)?.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line() {
        let steps =
            [Taken { name: "make the veth pair", time: Duration::from_micros(9), ok: true }];
        let about = json!({ "command": "ADD" });
        let line = line(about, Duration::from_millis(1), &steps, 1, br#"{"code": 11}"#);
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        let expected = json!({
            "command": "ADD", "ok": false, "us": 1000, "error": { "code": 11 },
            "steps": [{ "step": "make the veth pair", "us": 9, "ok": true }],
        });
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    }

    #[test]
    fn off_unless_asked_for() {
        assert!(CallLog::begin("bridge", &BTreeMap::new()).is_none());
        let empty = BTreeMap::from([(VARIABLE.to_owned(), String::new())]);
        assert!(CallLog::begin("bridge", &empty).is_none());
    }
}
