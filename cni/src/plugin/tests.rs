use super::*;

/// A plugin that answers with its own interface and fails on demand.
struct Echo;

impl Plugin for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }
    fn about(&self) -> String {
        "CNI echo plugin".to_owned()
    }
    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        if call.args.get("FAIL").is_some() {
            return Err(Error::new(ErrorCode::TryAgainLater, "not yet").with_details("wait"));
        }
        if let Some(ipam) = &call.conf.ipam_type {
            return call.delegate_add(ipam);
        }
        let interface = crate::Interface { name: call.ifname.clone(), ..Default::default() };
        Ok(CniResult { interfaces: vec![interface], ..CniResult::default() })
    }
    fn check(&self, _: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }
    fn del(&self, _: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }
    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        Err(Error::new(ErrorCode::GENERIC, format!("{:?}", call.valid_attachments)))
    }
}

/// Calls the plugin in process: exit code, standard output as JSON, standard error.
fn call(command: &str, extra: &[(&str, &str)], stdin: &str) -> (u8, Value, String) {
    let mut variables: BTreeMap<String, String> = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c"),
        ("CNI_NETNS", "/n"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/nowhere"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    variables.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = serve(
        &Echo,
        &NoSuite,
        &mut Io {
            variables,
            stdin: Box::new(stdin.as_bytes()),
            stdout: Box::new(&mut stdout),
            stderr: Box::new(&mut stderr),
        },
    );
    let document =
        if stdout.is_empty() { Value::Null } else { serde_json::from_slice(&stdout).unwrap() };
    (code, document, String::from_utf8(stderr).unwrap())
}

const CONF: &str = r#"{"cniVersion": "1.1.0", "name": "n", "type": "echo"}"#;

#[test]
fn version_reads_no_input() {
    struct Never;
    impl Read for Never {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("standard input was read"))
        }
    }
    let mut stdout = Vec::new();
    let variables = [("CNI_COMMAND".to_owned(), "VERSION".to_owned())].into();
    let mut io = Io {
        variables,
        stdin: Box::new(Never),
        stdout: Box::new(&mut stdout),
        stderr: Box::new(io::sink()),
    };
    assert_eq!(serve(&Echo, &NoSuite, &mut io), 0);
    drop(io);
    let document: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(
        document["supportedVersions"],
        json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
}

#[test]
fn a_person_gets_words_and_success() {
    let (code, document, stderr) = call("", &[], "");
    assert_eq!((code, document), (0, Value::Null));
    assert!(
        stderr.starts_with("CNI echo plugin\nCNI protocol versions supported: 0.1.0, 0.2.0"),
        "{stderr}"
    );
}

#[test]
fn results_are_in_the_configurations_version() {
    let (code, document, _) = call("ADD", &[], CONF);
    assert_eq!(
        (code, document),
        (0, json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}]}))
    );
    // the reference prints a result with interfaces here; the specification has no such form
    let (code, document, _) = call("ADD", &[], r#"{"cniVersion": "0.2.0", "name": "n"}"#);
    assert_eq!((code, &document["code"], &document["cniVersion"]), (1, &json!(1), &json!("0.2.0")));
}

#[test]
fn errors_are_documents_in_the_configurations_version() {
    let (code, document, _) =
        call("ADD", &[("CNI_ARGS", "FAIL=1")], r#"{"cniVersion": "0.4.0", "name": "n"}"#);
    let expected = json!({"cniVersion": "0.4.0", "code": 11, "msg": "not yet", "details": "wait"});
    assert_eq!((code, document), (1, expected));
    let (_, document, _) = call("ADD", &[("CNI_IFNAME", "")], CONF);
    assert_eq!(document["msg"], "required env variables [CNI_IFNAME] missing");
}

#[test]
fn commands_wait_for_their_version() {
    for (command, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        let (code, document, _) =
            call(command, &[], &format!(r#"{{"cniVersion": "{version}", "name": "n"}}"#));
        assert_eq!((code, &document["code"]), (1, &json!(1)));
        assert_eq!(document["msg"], format!("config version does not allow {command}"));
    }
    assert_eq!(call("CHECK", &[], CONF), (0, Value::Null, String::new()));
}

#[test]
fn gc_reads_both_spellings() {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let conf =
            json!({"cniVersion": "1.1.0", "name": "n", key: [{"containerID": "a", "ifname": "b"}]});
        let (_, document, _) = call("GC", &[], &conf.to_string());
        assert!(
            document["msg"].as_str().unwrap().contains(r#"container_id: "a", ifname: "b""#),
            "{document}"
        );
    }
}

#[test]
fn input_that_is_too_large_is_refused() {
    let (code, document, _) = call("ADD", &[], &" ".repeat(5 << 20));
    assert_eq!((code, &document["code"]), (1, &json!(6)));
}

#[test]
fn a_missing_delegate_is_named() {
    let (_, document, _) =
        call("ADD", &[], r#"{"cniVersion": "1.0.0", "name": "n", "ipam": {"type": "no-such"}}"#);
    assert!(
        document["msg"].as_str().unwrap().starts_with("failed to find plugin \"no-such\" in path"),
        "{document}"
    );
}
