//! The sandbox of a pod: its record, its network, its `/etc` files; made before its containers and removed after them.

use std::fmt::Write;
use std::io;

use super::context::{Context, log_folder};
use super::plan::PodPlan;
use super::record::{Record, Records, write_shared};
use crate::cgroup;
use crate::network::{Attached, Network};
use crate::runtime::{ContainerInfo, PodRef, Runtime, RuntimeError};

/// A step that failed: the kubelet's word for it, and a sentence.
pub type Failure = (String, String);

impl<R: Runtime, N: Network> Context<R, N> {
    /// Makes a fresh sandbox; what an earlier one left is removed first. The record is on disk before anything else.
    pub async fn set_up(&self, plan: &PodPlan, record: Record) -> Result<Attached, Failure> {
        let sandbox = |error: String| ("FailedCreatePodSandBox".to_owned(), error);
        self.with_records(move |records| records.write(&record))
            .await
            .map_err(|error| sandbox(format!("cannot write the pod's record: {error}")))?;
        // containers of a sandbox that is gone cannot run in a new one
        self.remove_containers(&plan.pod).await.map_err(|error| sandbox(error.to_string()))?;
        let (pod, ports) = (plan.pod.clone(), plan.host_ports.clone());
        let made = self.with_network(move |network| network.set_up(&pod, &ports)).await;
        let attached = made
            .map_err(|error| sandbox(error.to_string()))?
            .map_err(|error| (error.reason(), error.to_string()))?;
        let (plan, files) = (plan.clone(), attached.clone());
        self.with_records(move |records| write_files(records, &plan, &files))
            .await
            .map_err(|error| sandbox(format!("cannot write the pod's /etc files: {error}")))?;
        Ok(attached)
    }

    /// Removes containers, network, cgroup, logs, and the record last: it is what a restarted agent finds the rest by.
    /// Idempotent.
    pub async fn tear_down(&self, pod: &PodRef) -> Result<(), String> {
        self.remove_containers(pod).await.map_err(|error| error.to_string())?;
        let network_pod = pod.clone();
        self.with_network(move |network| network.tear_down(&network_pod))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let (uid, logs) = (pod.uid.clone(), log_folder(&self.logs, pod));
        let fail = |what: &str, error: &io::Error| {
            io::Error::other(format!("cannot remove the pod's {what}: {error}"))
        };
        let removed = self.with_records(move |records| {
            cgroup::remove(&cgroup::pod_parent(&uid)).map_err(|error| fail("cgroup", &error))?;
            match std::fs::remove_dir_all(logs) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(fail("logs", &error));
                }
                _ => {}
            }
            records.remove(&uid).map_err(|error| fail("record", &error))
        });
        removed.await.map_err(|error| error.to_string())
    }

    /// All containers of a pod, whatever their state.
    pub async fn containers_of(&self, pod: &PodRef) -> Result<Vec<ContainerInfo>, RuntimeError> {
        let mut all = self.runtime.list().await?;
        all.retain(|info| info.pod.uid == pod.uid);
        Ok(all)
    }

    async fn remove_containers(&self, pod: &PodRef) -> Result<(), RuntimeError> {
        for info in self.containers_of(pod).await? {
            self.runtime.remove(&info.id).await?;
        }
        Ok(())
    }
}

/// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, which all containers of the pod see.
fn write_files(records: &Records, plan: &PodPlan, attached: &Attached) -> io::Result<()> {
    let folder = records.etc(&plan.pod.uid);
    write_shared(&folder.join("hosts"), hosts(&plan.hostname, attached).as_bytes())?;
    write_shared(&folder.join("hostname"), format!("{}\n", plan.hostname).as_bytes())?;
    write_shared(&folder.join("resolv.conf"), attached.resolv_conf.as_bytes())
}

/// As the kubelet writes it.
fn hosts(hostname: &str, attached: &Attached) -> String {
    let mut text = "# Written by heddle-agent.\n\
        127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::0\tip6-localnet\n\
        fe00::0\tip6-mcastprefix\n\
        fe00::1\tip6-allnodes\n\
        fe00::2\tip6-allrouters\n"
        .to_owned();
    for ip in &attached.ips {
        writeln!(text, "{ip}\t{hostname}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn containers_may_read_the_files_and_others_not_the_record() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let pod = PodRef { namespace: "default".into(), name: "web".into(), uid: "u".into() };
        let plan = PodPlan { pod: pod.clone(), hostname: "web".into(), ..PodPlan::default() };
        records.write(&Record::new(&pod, "boot", 30)).unwrap();
        let ips = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let attached =
            Attached { ips, resolv_conf: "nameserver 10.96.0.10\n".into(), ..Attached::default() };
        write_files(&records, &plan, &attached).unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let text = |name| std::fs::read_to_string(records.etc("u").join(name)).unwrap();
        assert!(text("hosts").ends_with("10.0.0.2\tweb\nfd00::2\tweb\n"), "{}", text("hosts"));
        assert_eq!(
            (text("hostname").as_str(), text("resolv.conf").as_str()),
            ("web\n", "nameserver 10.96.0.10\n")
        );
        assert_eq!(mode(records.etc("u").join("hosts")), 0o644);
        assert_eq!(mode(records.folder("u").join("record.json")), 0o600);
    }
}
