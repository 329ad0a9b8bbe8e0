use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::testcall::with_call;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// Runs `look` on the call of container `c1`, interface `eth0`, in the network `n`.
fn call<T: Send>(look: impl Fn(&Call<'_>) -> T + Sync) -> T {
    with_call("", &json!({ "cniVersion": "1.1.0", "name": "n", "type": "overlay" }), look)
}

fn bridge(network: &str) -> Map<String, Value> {
    object(json!({ "type": "bridge", "name": network, "runtimeConfig": { "x": 1 } }))
}

fn record(network: &str, container: &str, delegate: Map<String, Value>) -> Record {
    Record {
        network: network.into(),
        container_id: container.into(),
        ifname: "eth0".into(),
        netns: "/run/netns/x".into(),
        follows_mtu: true,
        delegate,
    }
}

fn valid(container: &str) -> ValidAttachment {
    ValidAttachment { container_id: container.into(), ifname: "eth0".into() }
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_remembered_comes_back() {
    let folder = TempDir::new().unwrap();
    let records = Records::new(&folder.path().join("a/b"));
    call(|call| {
        assert_eq!(records.find(call), Remembered::Nothing);
        assert_eq!(records.content(call), None);
        records.remove(call).unwrap();
        let record = Record::new(call, true, bridge("n"));
        records.write(&record).unwrap();
        assert_eq!(records.find(call), Remembered::Delegate(bridge("n")));
        assert_eq!(records.all().unwrap(), [record]);
        let before = records.content(call);
        records
            .write(&Record::new(call, false, object(json!({ "type": "ptp", "name": "n" }))))
            .unwrap();
        records.restore(call, before.as_deref()).unwrap();
        assert_eq!(records.find(call), Remembered::Delegate(bridge("n")));
        records.restore(call, None).unwrap();
        assert_eq!(records.find(call), Remembered::Nothing);
    });
    assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0);
}

/// A file that is damaged, or that somebody has put there, is told and not followed.
#[test]
fn what_is_no_record() {
    let folder = TempDir::new().unwrap();
    let records = Records::new(folder.path());
    let with = |network: &str, container: &str, delegate: Value| {
        serde_json::to_string(&record(network, container, object(delegate))).unwrap()
    };
    for text in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "\0\0\0".to_owned(),
        with("n", "c2", json!({ "type": "bridge", "name": "n" })),
        with("n", "c1", json!({ "type": "bridge", "name": "other" })),
        with("n", "c1", json!({ "type": "overlay", "name": "n" })),
        with("n", "c1", json!({ "type": "../../bin/sh", "name": "n" })),
        with("n", "c1", json!({ "type": 7, "name": "n" })),
        with("n", "c1", json!({})),
    ] {
        fs::write(folder.path().join("c1:eth0.json"), &text).unwrap();
        call(|call| {
            assert!(matches!(records.find(call), Remembered::Unreadable(_)), "{text}");
        });
    }
    fs::write(folder.path().join("c1:eth0.json.new"), "{").unwrap();
    call(|call| records.remove(call).unwrap());
    assert_eq!(names(&folder), [""; 0]);
    // a folder in the file's place cannot be read, and is not removed
    fs::create_dir(folder.path().join("c1:eth0.json")).unwrap();
    call(|call| {
        assert!(matches!(records.find(call), Remembered::Unreadable(_)));
        assert!(records.remove(call).unwrap_err().msg.contains("cannot remove"));
    });
}

#[test]
fn flannels_files_are_read() {
    let folder = TempDir::new().unwrap();
    let records = Records::new(folder.path());
    let text = r#"{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"type":"host-local"},"name":"n","type":"bridge"}"#;
    fs::write(folder.path().join("c1"), text).unwrap();
    fs::write(folder.path().join("c9"), "nothing of ours").unwrap();
    call(|call| {
        let expected: Map<_, _> = serde_json::from_str(text).unwrap();
        assert_eq!(records.find(call), Remembered::Delegate(expected));
        records.remove(call).unwrap();
    });
    assert_eq!(names(&folder), ["c9"]);
    // of another network
    fs::write(folder.path().join("c1"), text.replace("\"n\"", "\"m\"")).unwrap();
    call(|call| {
        assert_eq!(records.find(call), Remembered::Nothing);
        records.remove(call).unwrap();
    });
    assert_eq!(names(&folder), ["c1", "c9"]);
}

#[test]
fn garbage() {
    let folder = TempDir::new().unwrap();
    let records = Records::new(folder.path());
    assert_eq!(Records::new(&folder.path().join("none")).stale("n", &[]).unwrap().len(), 0);
    let ptp = object(json!({ "type": "ptp", "name": "n" }));
    for one in [
        record("n", "live", bridge("n")),
        record("n", "dead1", bridge("n")),
        record("n", "dead2", bridge("n")),
        record("n", "dead3", ptp.clone()),
        record("m", "other", bridge("m")),
    ] {
        records.write(&one).unwrap();
    }
    fs::write(folder.path().join("broken:eth0.json"), "{").unwrap();
    fs::write(folder.path().join("live:eth0.json.new"), "{").unwrap();
    fs::write(folder.path().join("dead1:eth0.json.new"), "{").unwrap();
    fs::write(folder.path().join("flannels"), r#"{"type":"ipvlan","name":"n"}"#).unwrap();
    fs::write(folder.path().join("somebodys"), "else").unwrap();
    let stale = records.stale("n", &[valid("live")]).unwrap();
    let bare = super::super::plan::without_passing(bridge("n"));
    assert_eq!(stale, [bare, ptp, object(json!({ "type": "ipvlan", "name": "n" }))]);
    records.collect_garbage("n", &[valid("live")]).unwrap();
    let left = ["live:eth0.json", "live:eth0.json.new", "other:eth0.json", "somebodys"];
    assert_eq!(names(&folder), left);
    records.collect_garbage("n", &[]).unwrap();
    assert_eq!(names(&folder), ["other:eth0.json", "somebodys"]);
}

#[test]
fn long_names_stay_file_names() {
    let folder = TempDir::new().unwrap();
    let records = Records::new(folder.path());
    let long = "x".repeat(1000);
    records.write(&record("n", &long, bridge("n"))).unwrap();
    assert_eq!(names(&folder).len(), 1);
    assert_eq!(records.stale("n", &[valid(&long)]).unwrap().len(), 0);
    // two attachments never share a file
    let ends =
        [("a", "b_c"), ("a_b", "c"), ("a", "b.json"), ("a.json", "b")].map(|(c, i)| name(c, i));
    assert_eq!(ends.iter().collect::<BTreeSet<_>>().len(), ends.len());
}
