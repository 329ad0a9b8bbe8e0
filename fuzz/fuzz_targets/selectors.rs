//! The small languages of the API: selectors, quantities, times. What is read can be written and read again, and is the same then.
#![no_main]

use heddle_server::meta::field_selector::FieldSelector;
use heddle_server::meta::quantity::Quantity;
use heddle_server::meta::selector::Selector;
use heddle_server::meta::time::{MicroTime, Time};
use heddle_server::meta::{name, object};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<Selector>() {
        let written = selector.to_string();
        assert_eq!(written.parse().as_ref(), Ok(&selector), "{written}");
        selector.matches_labels(&json!({ text: text, "a": "1" }));
    }
    if let Ok(selector) = text.parse::<FieldSelector>() {
        let written = selector.to_string();
        assert_eq!(written.parse().as_ref(), Ok(&selector), "{written}");
    }
    if let Ok(quantity) = text.parse::<Quantity>() {
        let written = quantity.to_string();
        let again: Quantity = written.parse().unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(again.value(), quantity.value(), "{written}");
        assert_eq!(again.to_string(), written);
    }
    if let Ok(time) = MicroTime::parse(text) {
        let second = Time(time.0);
        assert!(Time::parse(&second.to_string()).is_ok(), "{second}");
    }
    let meta = json!({"metadata": {"name": text, "generateName": text, "labels": {text: text}, "finalizers": [text]}});
    object::validate(&meta, object::Scope::Namespaced, name::dns_subdomain);
    name::generated(text);
});
