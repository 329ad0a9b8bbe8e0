use serde_json::json;

use super::*;

fn entry(manager: &str, operation: &str, time: &str, field: &str) -> Value {
    json!({
        "manager": manager, "operation": operation, "apiVersion": "v1", "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": {field: {}},
    })
}

#[test]
fn the_list_is_read_and_written_in_order() {
    let list = json!([
        entry("z", "Apply", "2026-01-01T00:00:00Z", "f:a"),
        entry("y", "Apply", "2026-01-02T00:00:00Z", "f:b"),
        entry("a", "Update", "2025-01-01T00:00:00Z", "f:c"),
        entry("b", "Update", "2025-01-01T00:00:00Z", "f:d"),
    ]);
    let mut shuffled = list.clone();
    shuffled.as_array_mut().unwrap().reverse();
    let managed = Managed::read(&shuffled).unwrap();
    assert_eq!(managed.to_json(), list);
    assert_eq!(Managed::read(&Value::Null), Ok(Managed::default()));
    assert_eq!(Managed::default().to_json(), Value::Null);
}

#[test]
fn what_is_not_of_the_form_is_refused() {
    for (field, value, sentence) in [
        ("operation", json!("Frob"), "operation must be `Apply` or `Update`"),
        ("apiVersion", json!(""), "apiVersion must not be empty"),
        ("fieldsType", json!(""), "missing fieldsType in managed fields entry 0"),
        ("fieldsType", json!("V2"), "invalid fieldsType \"V2\" in managed fields entry 0"),
        ("fieldsV1", json!([]), "error decoding set: fields are a map by path element, not []"),
    ] {
        let mut entry = entry("a", "Update", "", "f:a");
        entry[field] = value;
        assert_eq!(Managed::read(&json!([entry])).unwrap_err().to_string(), sentence);
    }
    assert!(matches!(Managed::read(&json!({})), Err(ManagedError::Shape(_))));
    assert!(matches!(Managed::read(&json!([1])), Err(ManagedError::Shape(_))));
}

#[test]
fn the_oldest_updaters_are_folded_into_one() {
    let time = |index: usize| format!("2026-01-01T00:00:{index:02}Z");
    let mut list: Vec<Value> = (0..13)
        .map(|index| entry(&format!("u{index:02}"), "Update", &time(index), &format!("f:{index}")))
        .collect();
    list.push(entry("applier", "Apply", &time(0), "f:x"));
    let mut managed = Managed::read(&list.into()).unwrap();
    managed.cap();
    let names: Vec<String> = managed.0.keys().map(|manager| manager.name.clone()).collect();
    assert_eq!(
        names,
        [
            "ancient-changes",
            "applier",
            "u04",
            "u05",
            "u06",
            "u07",
            "u08",
            "u09",
            "u10",
            "u11",
            "u12"
        ]
    );
    let (_, ancient) = managed.0.first_key_value().unwrap();
    assert_eq!(ancient.fields.to_json(), json!({"f:0": {}, "f:1": {}, "f:2": {}, "f:3": {}}));
    assert_eq!(ancient.time.map(|time| time.to_string()), Some(time(3)));
    // one more goes into the same bucket
    let mut list = managed.to_json();
    list.as_array_mut().unwrap().push(entry("u13", "Update", &time(13), "f:13"));
    let mut managed = Managed::read(&list).unwrap();
    managed.cap();
    assert_eq!(managed.0.keys().filter(|one| is_updater(one)).count(), UPDATERS_MAX);
    let (_, ancient) = managed.0.first_key_value().unwrap();
    assert_eq!(ancient.fields.paths().len(), 5);
    let again = managed.clone();
    managed.cap();
    assert_eq!(managed, again);
}

#[test]
fn updaters_in_different_versions_are_not_folded_together() {
    let mut list = Vec::new();
    for index in 0..12 {
        let mut one = entry(&format!("u{index:02}"), "Update", "", &format!("f:{index}"));
        one["apiVersion"] = json!(format!("v{index}"));
        list.push(one);
    }
    let before = Managed::read(&list.into()).unwrap();
    let mut managed = before.clone();
    managed.cap();
    assert_eq!(managed, before);
}

#[test]
fn managers_have_names() {
    assert_eq!(check_name("kubectl"), []);
    assert_eq!(
        check_name("a\nb")[0].to_string(),
        "fieldManager: Invalid value: \"a\\nb\": should only contain printable characters"
    );
    assert_eq!(
        check_name(&"x".repeat(129))[0].to_string(),
        "fieldManager: Too long: may not be more than 128 bytes"
    );
}
