use proptest::prelude::*;

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Option<Environment>, Error> {
    Environment::read(&|name| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()))
}

const FULL: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/x"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin:/b"),
];

/// The full environment with some variables replaced.
fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    changes.iter().copied().chain(FULL).collect()
}

#[test]
fn a_full_environment_is_read() {
    let env = read(&FULL).unwrap().unwrap();
    assert_eq!(env.command, Command::Add);
    assert_eq!((env.container_id.as_str(), env.ifname.as_str()), ("c1", "eth0"));
    assert_eq!(env.netns, Some(PathBuf::from("/run/netns/x")));
    assert_eq!(env.path, [PathBuf::from("/opt/cni/bin"), PathBuf::from("/b")]);
    assert!(!env.netns_override);
    for on in ["1", "true", "TRUE", "True"] {
        let env = read(&with(&[("CNI_NETNS_OVERRIDE", on)])).unwrap().unwrap();
        assert!(env.netns_override, "{on}");
    }
}

#[test]
fn no_command_is_a_person() {
    assert!(read(&[]).unwrap().is_none());
    // even with everything else, and with something wrong
    assert!(read(&with(&[("CNI_COMMAND", ""), ("CNI_IFNAME", "a/b")])).unwrap().is_none());
}

#[test]
fn each_command_needs_its_own_variables() {
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
    let cases = [
        ("ADD", &all[..]),
        ("CHECK", &all[..]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"][..]),
        ("GC", &["CNI_PATH"][..]),
        ("STATUS", &["CNI_PATH"][..]),
        ("VERSION", &[][..]),
    ];
    for (command, needed) in cases {
        let missing = format!("required env variables [{}] missing", needed.join(","));
        match read(&[("CNI_COMMAND", command)]) {
            Err(error) => assert_eq!((error.msg, error.code.code()), (missing, 4)),
            Ok(_) => assert!(needed.is_empty(), "{command}"),
        }
        for variable in all {
            let expected = format!("required env variables [{variable}] missing");
            match read(&with(&[("CNI_COMMAND", command), (variable, "")])) {
                Err(error) => assert_eq!(error.msg, expected),
                Ok(_) => assert!(!needed.contains(&variable), "{command} without {variable}"),
            }
        }
    }
}

#[test]
fn messages_are_the_references() {
    let long = "0123456789abcdef";
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("CNI_COMMAND", "FOO")], "unknown CNI_COMMAND: FOO"),
        (&[("CNI_COMMAND", "add")], "unknown CNI_COMMAND: add"),
        (&[("CNI_CONTAINERID", "a/b")], "invalid characters in containerID"),
        (&[("CNI_CONTAINERID", ".a")], "invalid characters in containerID"),
        (&[("CNI_CONTAINERID", "../../etc")], "invalid characters in containerID"),
        (&[("CNI_CONTAINERID", "a\n")], "invalid characters in containerID"),
        (&[("CNI_IFNAME", long)], "interface name is too long"),
        (&[("CNI_IFNAME", "ääääääää")], "interface name is too long"),
        (&[("CNI_IFNAME", ".")], "interface name is . or .."),
        (&[("CNI_IFNAME", "..")], "interface name is . or .."),
        (&[("CNI_IFNAME", "a b")], "interface name contains / or : or whitespace characters"),
        (&[("CNI_IFNAME", "a/b")], "interface name contains / or : or whitespace characters"),
        (&[("CNI_IFNAME", "a:1")], "interface name contains / or : or whitespace characters"),
        (&[("CNI_IFNAME", "a\u{2003}")], "interface name contains / or : or whitespace characters"),
        (&[("CNI_PATH", ":")], "required env variables [CNI_PATH] missing"),
        (&[("CNI_ARGS", "MAC")], "ARGS: invalid pair \"MAC\""),
        // the check of a variable that is there comes in the same pass, and first if its variable comes first
        (&[("CNI_CONTAINERID", "a/b"), ("CNI_PATH", "")], "invalid characters in containerID"),
        (&[("CNI_CONTAINERID", ""), ("CNI_IFNAME", "..")], "interface name is . or .."),
    ];
    for (changes, message) in cases {
        let error = read(&with(changes)).unwrap_err();
        assert_eq!((error.msg.as_str(), error.code.code()), (*message, 4), "{changes:?}");
    }
    // 15 bytes are the kernel's limit, and not too long
    assert!(read(&with(&[("CNI_IFNAME", &long[..15])])).is_ok());
}

#[test]
fn version_looks_at_nothing_else() {
    let hostile = [("CNI_COMMAND", "VERSION"), ("CNI_ARGS", "nonsense"), ("CNI_IFNAME", "../..")];
    assert_eq!(read(&hostile).unwrap().unwrap().command, Command::Version);
}

#[test]
fn args_are_pairs_in_order() {
    let args = CniArgs::parse("IgnoreUnknown=1;MAC=00:11:22:33:44:55;A=b=c;;MAC=x;").unwrap();
    assert_eq!(args.get("MAC"), Some("x"));
    assert_eq!(args.get("A"), Some("b=c"));
    assert_eq!(args.get("mac"), None);
    let keys: Vec<_> = args.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["IgnoreUnknown", "MAC", "A", "MAC"]);
    assert_eq!(CniArgs::parse("").unwrap(), CniArgs::default());
    assert_eq!(CniArgs::parse("A=1;B").unwrap_err().msg, r#"ARGS: invalid pair "B""#);
}

#[test]
fn unknown_args_are_refused_unless_told_otherwise() {
    let cases = [
        ("MAC=m", None),
        ("MAC=m;K8S_POD_NAME=x;Z=1", Some(r#"ARGS: unknown args ["K8S_POD_NAME=x" "Z=1"]"#)),
        ("mac=m", Some(r#"ARGS: unknown args ["mac=m"]"#)),
        ("K=x;IgnoreUnknown=1", None),
        ("K=x;IgnoreUnknown=true", None),
        ("K=x;IgnoreUnknown=TRUE", None),
        ("K=x;IgnoreUnknown=0", Some(r#"ARGS: unknown args ["K=x"]"#)),
        ("K=x;IgnoreUnknown=False", Some(r#"ARGS: unknown args ["K=x"]"#)),
        (
            "MAC=m;IgnoreUnknown=t",
            Some(
                r#"ARGS: error parsing value of pair "IgnoreUnknown=t": boolean unmarshal error: invalid input t"#,
            ),
        ),
    ];
    for (text, expected) in cases {
        let outcome = CniArgs::parse(text).unwrap().refuse_unknown(&["MAC"]);
        assert_eq!(outcome.err().map(|error| error.msg).as_deref(), expected, "{text}");
    }
}

#[test]
fn identifiers_are_safe_file_names() {
    for good in ["a", "0", "a.b-c_d", "A..", "c-"] {
        assert!(is_identifier(good), "{good}");
    }
    for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\0", "a\n", "../a"] {
        assert!(!is_identifier(bad), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn hostile_environments_never_panic(command in "(ADD|DEL|CHECK|GC|STATUS|VERSION|\\PC{0,8})", id: String, netns: String, name: String, args: String, path: String) {
        let pairs = [("CNI_COMMAND", command.as_str()), ("CNI_CONTAINERID", &id), ("CNI_NETNS", &netns),
            ("CNI_IFNAME", &name), ("CNI_ARGS", &args), ("CNI_PATH", &path)];
        if let Ok(Some(environment)) = read(&pairs) && environment.command == Command::Add {
            prop_assert!(is_identifier(&environment.container_id));
            prop_assert!(!environment.ifname.contains('/') && environment.ifname.len() <= 15);
        }
    }

    #[test]
    fn hostile_args_never_panic(text: String) {
        if let Ok(args) = CniArgs::parse(&text) {
            args.refuse_unknown(&["MAC"]).ok();
            args.get("MAC");
        }
    }
}
