//! Calls as plugins get them, for unit tests.

use std::sync::Mutex;

use cni::plugin::{Call, Io, NoSuite, Plugin, serve};
use cni::{CniResult, Error};
use serde_json::Value;

/// Runs `look` on the call that a plugin gets on ADD with these `CNI_ARGS` and this configuration.
pub fn with_call<T: Send>(args: &str, conf: &Value, look: impl Fn(&Call<'_>) -> T + Sync) -> T {
    let probe = Probe { look, seen: Mutex::new(None) };
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/none"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/nowhere"),
        ("CNI_ARGS", args),
    ];
    let stdin = conf.to_string();
    let mut stdout = Vec::new();
    let mut io = Io {
        variables: variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        stdin: Box::new(stdin.as_bytes()),
        stdout: Box::new(&mut stdout),
        stderr: Box::new(std::io::sink()),
    };
    serve(&probe, &NoSuite, &mut io);
    drop(io);
    let seen = probe.seen.into_inner().unwrap();
    seen.unwrap_or_else(|| panic!("not called: {}", String::from_utf8_lossy(&stdout)))
}

struct Probe<F, T> {
    look: F,
    seen: Mutex<Option<T>>,
}

impl<T: Send, F: Fn(&Call<'_>) -> T + Sync> Plugin for Probe<F, T> {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn about(&self) -> String {
        String::new()
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        *self.seen.lock().unwrap() = Some((self.look)(call));
        Ok(CniResult::default())
    }

    fn check(&self, _: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn del(&self, _: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }
}
