use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use super::*;
use crate::plugin::{Io, Plugin, Suite, serve};
use crate::version::Version;
use crate::{Interface, NoSuite};

/// Delegates everything to the type `helper`.
struct Front;

impl Plugin for Front {
    fn name(&self) -> &'static str {
        "front"
    }
    fn about(&self) -> String {
        "delegates".to_owned()
    }
    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        call.delegate_add("helper")
    }
    fn check(&self, call: &Call<'_>) -> Result<(), Error> {
        call.delegate_check("helper")
    }
    fn del(&self, call: &Call<'_>) -> Result<(), Error> {
        call.delegate_del("helper")
    }
}

/// The helper as a part of this program; it speaks nothing newer than 0.4.0.
struct Helper;

impl Plugin for Helper {
    fn name(&self) -> &'static str {
        "helper"
    }
    fn about(&self) -> String {
        "is delegated to".to_owned()
    }
    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        let interface = Interface { name: call.ifname.clone(), ..Interface::default() };
        Ok(CniResult { interfaces: vec![interface], ..CniResult::default() })
    }
    fn check(&self, _: &Call<'_>) -> Result<(), Error> {
        Err(Error::new(ErrorCode::TryAgainLater, "not yet"))
    }
    fn del(&self, _: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }
    fn versions(&self) -> &[Version] {
        &[Version::V0_3_1, Version::V0_4_0]
    }
}

struct Both;

impl Suite for Both {
    fn find(&self, plugin_type: &str) -> Option<&dyn Plugin> {
        (plugin_type == "helper").then_some(&Helper as &dyn Plugin)
    }
}

/// A folder with a helper in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with_script(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("helper");
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn with_own_program() -> Self {
        let folder = tempfile::tempdir().unwrap();
        symlink("/proc/self/exe", folder.path().join("helper")).unwrap();
        Self(folder)
    }

    /// Calls the front: exit code, standard output, standard error.
    fn call(&self, command: &str, version: &str, suite: &dyn Suite) -> (u8, Value, String) {
        let path = self.0.path().display().to_string();
        let variables: BTreeMap<_, _> = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "c"),
            ("CNI_NETNS", "/n"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", &path),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let conf = json!({"cniVersion": version, "name": "n", "type": "front"}).to_string();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut io = Io {
            variables,
            stdin: Box::new(conf.as_bytes()),
            stdout: Box::new(&mut stdout),
            stderr: Box::new(&mut stderr),
        };
        let code = serve(&Front, suite, &mut io);
        drop(io);
        let document = serde_json::from_slice(&stdout).unwrap_or_default();
        (code, document, String::from_utf8(stderr).unwrap())
    }
}

#[test]
fn a_program_gets_the_same_input_and_what_it_says_is_passed_on() {
    let folder = Folder::with_script(
        r#"conf=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $conf" >&2
echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}'"#,
    );
    let (code, document, stderr) = folder.call("ADD", "1.0.0", &NoSuite);
    assert_eq!((code, &document["ips"][0]["address"]), (0, &json!("10.0.0.2/24")), "{document}");
    assert_eq!(stderr, "ADD c /n {\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"front\"}\n");
    assert_eq!(folder.call("DEL", "1.0.0", &NoSuite).0, 0);
}

#[test]
fn a_programs_refusal_keeps_its_code_and_words() {
    let refuse = r#"echo '{"code": 11, "msg": "busy", "details": "soon"}'; echo why >&2; exit 1"#;
    let folder = Folder::with_script(refuse);
    for command in ["ADD", "CHECK", "DEL"] {
        let (code, document, stderr) = folder.call(command, "1.0.0", &NoSuite);
        let expected = json!({"cniVersion": "1.0.0", "code": 11, "msg": "busy", "details": "soon"});
        assert_eq!((code, document, stderr.as_str()), (1, expected, "why\n"));
    }
}

#[test]
fn a_program_that_answers_nothing_or_nonsense_is_named() {
    let cases = [
        ("exit 0", "plugin helper answered without a result", 6),
        ("echo nonsense", "plugin helper answered with something that is not JSON", 6),
        ("exit 3", "plugin helper failed (exit status: 3) without an error document", 100),
        (r#"echo '{"ips": 7}'"#, "plugin helper: ", 6),
    ];
    for (script, message, code) in cases {
        let (_, document, _) = Folder::with_script(script).call("ADD", "1.0.0", &NoSuite);
        let told = document["msg"].as_str().unwrap();
        assert!(told.starts_with(message), "{script}: {document}");
        assert_eq!(document["code"], code, "{script}: {document}");
    }
}

#[test]
fn a_file_that_cannot_run_is_named() {
    let folder = Folder::with_script("");
    let file = folder.0.path().join("helper");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, document, _) = folder.call("ADD", "1.0.0", &NoSuite);
    let expected = format!("plugin helper ({}): ", file.display());
    assert!(document["msg"].as_str().unwrap().starts_with(&expected), "{document}");
}

#[test]
fn this_program_is_called_in_process_and_refuses_what_it_would_refuse() {
    let folder = Folder::with_own_program();
    let (code, document, _) = folder.call("ADD", "0.4.0", &Both);
    let expected = json!({"cniVersion": "0.4.0", "interfaces": [{"name": "eth0"}]});
    assert_eq!((code, document), (0, expected));
    let (_, document, _) = folder.call("CHECK", "0.4.0", &Both);
    assert_eq!((&document["code"], &document["msg"]), (&json!(11), &json!("not yet")));
    let (_, document, _) = folder.call("ADD", "1.0.0", &Both);
    assert_eq!(document["msg"], "incompatible CNI versions", "{document}");
}
