//! Bodies in protobuf: read or refused; and what was read is an object of its kind, without fields that the kind does not have.
#![no_main]

use heddle_server::protobuf;
use heddle_server::schema::decode::{DecodeError, Target};
use heddle_server::schema::definitions::Definitions;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = protobuf::decode(bytes) else { return };
    let text = |field: &str| object.get(field).and_then(serde_json::Value::as_str);
    // an envelope may hold JSON, of which nothing is known yet
    let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else { return };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(target) = Target::kind(Definitions::kubernetes(), group, version, kind) else {
        return;
    };
    if bytes.windows(16).any(|part| part == b"application/json") {
        return;
    }
    match target.value(object.clone()) {
        Ok(decoded) => assert_eq!(decoded.mistakes, Vec::<String>::new(), "{object}"),
        // a text that should be an amount
        Err(DecodeError::Type(error)) => {
            assert!(error.starts_with("quantities must match"), "{error}: {object}")
        }
        Err(error) => panic!("{error}: {object}"),
    }
});
