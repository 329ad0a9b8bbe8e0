//! From a container's description to the OCI runtime specification. Pure.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::device::Device;
use super::{ContainerSpec, Resources};
use crate::cgroup::Layout;
use crate::image::ImageInfo;
use crate::image::accounts::Accounts;

/// What of the node decides how a container is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// How its cgroups are arranged.
    pub cgroups: Layout,
    /// Its devices; needed for privileged containers only.
    pub devices: Vec<Device>,
}

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
pub fn spec(
    container: &ContainerSpec,
    image: &ImageInfo,
    accounts: &Accounts,
    node: &Node,
) -> Result<Spec, String> {
    let variables = variables(container);
    let args = process_args(container, image, &variables)?;
    let user = accounts.resolve(&container.user, &image.user)?;
    let capabilities: &[&str] =
        if container.privileged { &ALL_CAPABILITIES } else { &CAPABILITIES };
    let cwd = container.working_dir.clone().unwrap_or_else(|| image.working_dir.clone());
    let devices: Vec<Value> = if container.privileged {
        node.devices.iter().map(Device::to_json).collect()
    } else {
        Vec::new()
    };
    let (masked, read_only) = if container.privileged { (vec![], vec![]) } else { hidden_paths() };
    let document = json!({
        "ociVersion": "1.0.2",
        "hostname": container.hostname,
        "root": { "path": "rootfs", "readonly": false },
        "process": {
            "terminal": false,
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
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
            "namespaces": namespaces(container, node.cgroups),
            "devices": devices,
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

/// The manifest's variables, each of which may refer to those before it. Of several of one name the last counts.
fn variables(container: &ContainerSpec) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::new();
    for (key, value) in &container.env {
        let value = expand(value, &known);
        match known.iter_mut().find(|(name, _)| name == key) {
            Some(earlier) => earlier.1 = value,
            None => known.push((key.clone(), value)),
        }
    }
    known
}

/// The image's variables, then the manifest's.
fn environment(
    container: &ContainerSpec,
    image: &ImageInfo,
    known: &[(String, String)],
) -> Vec<String> {
    let is_known = |key: &str| known.iter().any(|(name, _)| name == key);
    let key = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> =
        image.env.iter().filter(|line| !is_known(&key(line))).cloned().collect();
    let is_set =
        |lines: &[String], name: &str| is_known(name) || lines.iter().any(|line| key(line) == name);
    if !is_set(&lines, "PATH") {
        lines.insert(0, DEFAULT_PATH.to_owned());
    }
    if !is_set(&lines, "HOSTNAME") {
        lines.push(format!("HOSTNAME={}", container.hostname));
    }
    lines.extend(known.iter().map(|(key, value)| format!("{key}={value}")));
    lines
}

/// All its own except the network, which is the pod's. Under version 1 a container's cgroups are mounted one by one; under
/// version 2 only a namespace keeps it from seeing the whole node's.
fn namespaces(container: &ContainerSpec, cgroups: Layout) -> Vec<Value> {
    let mut own = vec!["pid", "ipc", "uts", "mount"];
    if cgroups == Layout::V2 && !container.privileged {
        own.push("cgroup");
    }
    let mut namespaces: Vec<_> = own.into_iter().map(|kind| json!({ "type": kind })).collect();
    namespaces.push(json!({ "type": "network", "path": container.netns }));
    namespaces
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
    let kernel = if container.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", kernel] }),
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", kernel] }),
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
    fn of_two_variables_of_one_name_the_last_counts() {
        let env = [("A", "1"), ("B", "$(A)"), ("A", "2$(A)"), ("HOSTNAME", "own")];
        let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let container = ContainerSpec { env, ..ContainerSpec::default() };
        let lines = environment(&container, &ImageInfo::default(), &variables(&container));
        assert_eq!(lines, [DEFAULT_PATH, "A=21", "B=1", "HOSTNAME=own"]);
    }

    fn node(cgroups: Layout) -> Node {
        let null = Device {
            path: "/dev/null".into(),
            block: false,
            major: 1,
            minor: 3,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        Node { cgroups, devices: vec![null] }
    }

    fn full() -> (ContainerSpec, ImageInfo) {
        let container = ContainerSpec {
            id: "c".into(),
            command: strings(&["/bin/server"]),
            args: strings(&["--name=$(NAME)"]),
            env: vec![("NAME".into(), "web".into())],
            working_dir: Some("/srv".into()),
            netns: "/run/netns/x".into(),
            hostname: "web-0".into(),
            cgroup_parent: "/kubepods/podu".into(),
            resources: Resources {
                cpu_shares: Some(256),
                cpu_quota: Some(5000),
                cpu_period: Some(100_000),
                memory_limit: Some(1 << 20),
            },
            mounts: vec![super::super::BindMount {
                host: "/var/lib/pod/hosts".into(),
                container: "/etc/hosts".into(),
                read_only: true,
            }],
            ..ContainerSpec::default()
        };
        let image = ImageInfo {
            env: strings(&["LANG=C"]),
            user: "www".into(),
            entrypoint: strings(&["unused"]),
            ..ImageInfo::default()
        };
        (container, image)
    }

    /// The specification as text, with sets in order.
    fn text(container: &ContainerSpec, image: &ImageInfo, cgroups: Layout) -> String {
        let accounts =
            Accounts { passwd: "www:x:33:34::/:/bin/false".into(), group: "logs:x:40:www".into() };
        let spec = spec(container, image, &accounts, &node(cgroups)).unwrap();
        let mut document = serde_json::to_value(spec).unwrap();
        for set in document["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
            set.as_array_mut().unwrap().sort_by_key(ToString::to_string);
        }
        serde_json::to_string_pretty(&document).unwrap()
    }

    #[test]
    fn golden_specification() {
        let (container, image) = full();
        insta::assert_snapshot!(text(&container, &image, Layout::Hybrid));
    }

    #[test]
    fn golden_privileged_specification() {
        let (container, image) = full();
        let container = ContainerSpec { privileged: true, ..container };
        insta::assert_snapshot!(text(&container, &image, Layout::V1));
    }

    #[test]
    fn version_2_has_a_cgroup_namespace() {
        let (container, image) = full();
        for (cgroups, expected) in
            [(Layout::V1, false), (Layout::Hybrid, false), (Layout::V2, true)]
        {
            let spec: Value = serde_json::from_str(&text(&container, &image, cgroups)).unwrap();
            let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
            assert_eq!(namespaces.contains(&json!({ "type": "cgroup" })), expected, "{cgroups:?}");
        }
        let privileged = ContainerSpec { privileged: true, ..container };
        let namespaces = super::namespaces(&privileged, Layout::V2);
        assert!(!namespaces.contains(&json!({ "type": "cgroup" })));
    }
}
