//! The topologies by the plugins, and by the program where there is one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::Outcome;
use crate::node::{Node, Pod};
use crate::place::{Attachment, Place};

/// The plugins, installed in a folder that goes with this.
pub struct Plugins {
    folder: Folder,
}

impl Plugins {
    /// Installs those of a `heddle-cni`.
    pub fn install(program: &Path) -> Outcome<Self> {
        let folder = Folder::new()?;
        let output =
            Command::new(program).arg("install").arg("--bin-dir").arg(folder.path("bin")).output();
        let output =
            output.map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} install: {said}", program.display()).into());
        }
        Ok(Self { folder })
    }

    /// Attaches a pod by bridge or ptp with host-local, as the plugin `overlay` delegates to them.
    pub fn attach(&self, node: &Node, pod: &Pod, place: Place) -> Outcome {
        let bin = self.folder.path("bin");
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "bench", "type": place.attachment.word(), "mtu": place.path.mtu(),
            "ipam": {
                "type": "host-local", "dataDir": self.folder.path(node.ns.name()),
                "ranges": [[{"subnet": node.range()}]],
            },
        });
        match place.attachment {
            Attachment::Bridge => conf["isDefaultGateway"] = json!(true),
            Attachment::Ptp => conf["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}]),
        }
        let (text, id, netns) = (conf.to_string(), pod.ns.name(), pod.ns.ns().path());
        let output = node.ns.run(|| {
            let mut command = Command::new(bin.join(place.attachment.word()));
            command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            command.env("CNI_COMMAND", "ADD").env("CNI_PATH", &bin).env("CNI_IFNAME", "eth0");
            command.env("CNI_CONTAINERID", id).env("CNI_NETNS", netns);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(text.as_bytes())?;
            }
            child.wait_with_output()
        })?;
        let said = String::from_utf8_lossy(&output.stdout);
        // whoever sends to the pod does so at this address
        let expected = format!("\"{}/", pod.address());
        if output.status.success() && said.contains(&expected) {
            return Ok(());
        }
        Err(format!("{} ADD: {} {said}", place.attachment.word(), output.status).into())
    }
}

/// Removed with what is in it.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    pub fn new() -> Outcome<Self> {
        let path = std::env::temp_dir().join(netns_tools::testing::unique_name("bench"));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Of something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
