//! From a container's description to the OCI runtime specification. Pure.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{ContainerSpec, Resources, UserSpec};
use crate::image::ImageInfo;

/// Docker's and containerd's default set. Inheritable and ambient stay empty: runc cannot apply them to a plain root.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Every capability of the kernel, up to `CAP_CHECKPOINT_RESTORE` (capabilities(7)).
const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the specification. The error names what is missing.
pub fn spec(container: &ContainerSpec, image: &ImageInfo) -> Result<Spec, String> {
    let variables = variables(container);
    let args = process_args(container, image, &variables)?;
    let user = user(&container.user, &image.user)?;
    let capabilities: &[&str] =
        if container.privileged { &ALL_CAPABILITIES } else { &CAPABILITIES };
    let cwd = container.working_dir.clone().unwrap_or_else(|| image.working_dir.clone());
    let (masked, read_only) = if container.privileged { (vec![], vec![]) } else { hidden_paths() };
    let document = json!({
        "ociVersion": "1.0.2",
        "hostname": container.hostname,
        "root": { "path": "rootfs", "readonly": false },
        "process": {
            "terminal": false,
            "user": user,
            "args": args,
            "env": environment(container, image, &variables),
            "cwd": if cwd.is_empty() { "/".to_owned() } else { cwd },
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "inheritable": [], "ambient": [],
            },
            "oomScoreAdj": 0,
            "noNewPrivileges": false,
        },
        "mounts": mounts(container),
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "network", "path": container.netns },
            ],
            "cgroupsPath": format!("{}/{}", container.cgroup_parent, container.id),
            "resources": resources(&container.resources, container.privileged),
            "maskedPaths": masked,
            "readonlyPaths": read_only,
        },
    });
    serde_json::from_value(document)
        .map_err(|error| format!("its specification cannot be built: {error}"))
}

/// Kubernetes' rule: `command` replaces the entrypoint and drops the image's command; `args` replaces the command.
fn process_args(
    container: &ContainerSpec,
    image: &ImageInfo,
    variables: &[(String, String)],
) -> Result<Vec<String>, String> {
    let expanded =
        |words: &[String]| words.iter().map(|word| expand(word, variables)).collect::<Vec<_>>();
    let (mut command, mut args) = (expanded(&container.command), expanded(&container.args));
    if command.is_empty() {
        command.clone_from(&image.entrypoint);
        if args.is_empty() {
            args.clone_from(&image.cmd);
        }
    }
    command.append(&mut args);
    if command.is_empty() {
        return Err("neither the manifest nor the image says what to run; set command".to_owned());
    }
    Ok(command)
}

/// `$(NAME)` becomes the value of a variable of the container; `$$(NAME)` is `$(NAME)`; an unknown name stays as it is.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix("$(").and_then(|inner| Some((inner.find(')')?, inner)));
        if let Some((end, inner)) = name {
            match variables.iter().rev().find(|(key, _)| *key == inner[..end]) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&rest[..end + 3]),
            }
            rest = &inner[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out + rest
}

/// The manifest's variables, each of which may refer to those before it.
fn variables(container: &ContainerSpec) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::new();
    for (key, value) in &container.env {
        let value = expand(value, &known);
        known.push((key.clone(), value));
    }
    known
}

/// The image's variables, then the manifest's.
fn environment(
    container: &ContainerSpec,
    image: &ImageInfo,
    known: &[(String, String)],
) -> Vec<String> {
    let overridden = |line: &&String| {
        let key = line.split('=').next().unwrap_or_default();
        !known.iter().any(|(name, _)| name == key)
    };
    let mut lines: Vec<String> = image.env.iter().filter(overridden).cloned().collect();
    if !lines.iter().any(|line| line.starts_with("PATH="))
        && !known.iter().any(|(key, _)| key == "PATH")
    {
        lines.insert(0, DEFAULT_PATH.to_owned());
    }
    lines.push(format!("HOSTNAME={}", container.hostname));
    lines.extend(known.iter().map(|(key, value)| format!("{key}={value}")));
    lines
}

fn user(wanted: &UserSpec, image: &str) -> Result<Value, String> {
    let (name, group) = image.split_once(':').unwrap_or((image, ""));
    let number = |text: &str| {
        match text {
        "" | "root" => Ok(0),
        digits => digits.parse::<u32>().map_err(|_| {
            format!("the image runs as user {image:?}, which is not a number; set securityContext.runAsUser")
        }),
    }
    };
    let uid = wanted.uid.map_or_else(|| number(name), Ok)?;
    // whoever sets a user without a group gets root's group, as in Kubernetes
    let gid = match wanted.gid {
        Some(gid) => gid,
        None if wanted.uid.is_some() => 0,
        None => number(group)?,
    };
    Ok(json!({ "uid": uid, "gid": gid, "additionalGids": wanted.groups }))
}

fn resources(limits: &Resources, privileged: bool) -> Value {
    let mut document = json!({
        "devices": [{ "allow": privileged, "access": "rwm" }],
        "cpu": {},
        "memory": {},
    });
    if !privileged {
        document["devices"] = json!(devices());
    }
    let mut set = |part: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            document[part][key] = value;
        }
    };
    set("cpu", "shares", limits.cpu_shares.map(Value::from));
    set("cpu", "quota", limits.cpu_quota.map(Value::from));
    set("cpu", "period", limits.cpu_period.map(Value::from));
    set("memory", "limit", limits.memory_limit.map(Value::from));
    document
}

/// Deny all, then the devices that every container may use (runc makes the nodes itself).
fn devices() -> Vec<Value> {
    // null, zero, full, random, urandom, tty, console, ptmx, pts/*
    let allowed = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, -1)];
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    for (major, minor) in allowed {
        let mut rule = json!({ "allow": true, "type": "c", "major": major, "access": "rwm" });
        if minor >= 0 {
            rule["minor"] = json!(minor);
        }
        rules.push(rule);
    }
    rules
}

fn hidden_paths() -> (Vec<&'static str>, Vec<&'static str>) {
    let masked = vec![
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];
    (masked, vec!["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"])
}

fn mounts(container: &ContainerSpec) -> Vec<Value> {
    let sys = if container.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys] }),
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }),
    ];
    for bind in &container.mounts {
        let access = if bind.read_only { "ro" } else { "rw" };
        mounts.push(json!({ "destination": bind.container, "type": "bind", "source": bind.host,
            "options": ["rbind", "rprivate", access] }));
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn command_and_args_as_kubernetes_has_them() {
        let image =
            ImageInfo { entrypoint: strings(&["e"]), cmd: strings(&["c"]), ..ImageInfo::default() };
        let cases: [(&[&str], &[&str], &[&str]); 4] = [
            (&[], &[], &["e", "c"]),
            (&["x"], &[], &["x"]),
            (&[], &["y"], &["e", "y"]),
            (&["x"], &["y"], &["x", "y"]),
        ];
        for (command, args, expected) in cases {
            let container = ContainerSpec {
                command: strings(command),
                args: strings(args),
                ..ContainerSpec::default()
            };
            assert_eq!(process_args(&container, &image, &[]).unwrap(), expected);
        }
        assert!(
            process_args(&ContainerSpec::default(), &ImageInfo::default(), &[])
                .unwrap_err()
                .contains("command")
        );
    }

    #[test]
    fn variables_expand() {
        let variables = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
        let cases = [
            ("$(A)-$(B)", "1-2"),
            ("$$(A)", "$(A)"),
            ("$(NO)", "$(NO)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("ü$(A)ü", "ü1ü"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &variables), expected);
        }
    }

    #[test]
    fn the_manifest_wins_over_the_image() {
        let image = ImageInfo { env: strings(&["A=image", "PATH=/p"]), ..ImageInfo::default() };
        let container = ContainerSpec {
            env: vec![("A".into(), "own".into()), ("B".into(), "$(A)!".into())],
            hostname: "web".into(),
            ..ContainerSpec::default()
        };
        assert_eq!(
            environment(&container, &image, &variables(&container)),
            ["PATH=/p", "HOSTNAME=web", "A=own", "B=own!"]
        );
    }

    #[test]
    fn a_specification_is_complete() {
        let container = ContainerSpec {
            id: "c".into(),
            command: strings(&["/bin/true"]),
            netns: "/run/netns/x".into(),
            cgroup_parent: "/kubepods/podu".into(),
            resources: Resources {
                memory_limit: Some(1 << 20),
                cpu_quota: Some(5000),
                ..Resources::default()
            },
            ..ContainerSpec::default()
        };
        let spec = serde_json::to_value(spec(&container, &ImageInfo::default()).unwrap()).unwrap();
        assert_eq!(spec["linux"]["cgroupsPath"], "/kubepods/podu/c");
        assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 1 << 20);
        assert_eq!(
            spec["linux"]["namespaces"][4],
            json!({"type": "network", "path": "/run/netns/x"})
        );
        let ambient = &spec["process"]["capabilities"]["ambient"];
        assert!(ambient.as_array().is_none_or(Vec::is_empty), "{ambient}");
        assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
    }

    #[test]
    fn a_named_user_of_an_image_needs_a_number() {
        assert_eq!(user(&UserSpec::default(), "1000:50").unwrap()["gid"], 50);
        assert!(user(&UserSpec::default(), "www").unwrap_err().contains("runAsUser"));
        let own = UserSpec { uid: Some(7), ..UserSpec::default() };
        assert_eq!(user(&own, "www").unwrap(), json!({"uid": 7, "gid": 0, "additionalGids": []}));
    }
}
