//! Bodies in JSON and YAML, and schemas of custom kinds: read or refused, and what was read stays as it is when it is read again.
#![no_main]

use heddle_server::meta::field_error::FieldPath;
use heddle_server::schema::decode::Target;
use heddle_server::schema::definitions::Definitions;
use heddle_server::schema::structural::Structural;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const KINDS: [(&str, &str); 5] = [
    ("", "Pod"),
    ("", "Service"),
    ("apps", "Deployment"),
    ("apps", "ControllerRevision"),
    ("batch", "CronJob"),
];

fuzz_target!(|bytes: &[u8]| {
    let definitions = Definitions::kubernetes();
    for (group, kind) in KINDS {
        let target = Target::kind(definitions, group, "v1", kind).expect("a kind");
        for decoded in [target.json(bytes), target.yaml(bytes)].into_iter().flatten() {
            let again = target.value(decoded.value.clone()).expect("it was read before");
            assert_eq!((again.value, again.mistakes), (decoded.value, vec![]));
        }
    }
    let Ok(Value::Array(parts)) = serde_json::from_slice(bytes) else { return };
    let [schema, object, ..] = &parts[..] else { return };
    let Ok(structural) = Structural::read(schema, &FieldPath::root("schema")) else { return };
    let target = Target { definitions, shape: structural.shape(), custom: true };
    let Ok(decoded) = target.value(object.clone()) else { return };
    let mut filled = decoded.value;
    structural.default(&mut filled);
    structural.validate(&filled, None);
    let mut again = filled.clone();
    structural.default(&mut again);
    assert_eq!(again, filled, "what was filled in stays");
});
