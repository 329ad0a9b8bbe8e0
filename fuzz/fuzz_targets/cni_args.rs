//! `CNI_ARGS` and the other variables: parsed or refused, and what is parsed is what was written.
#![no_main]

use cni::CniArgs;
use cni::args::{is_identifier, validate_container_id, validate_ifname};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    assert_eq!(validate_container_id(text).is_ok(), is_identifier(text));
    if validate_ifname(text).is_ok() {
        assert!(!text.is_empty() && text.len() <= 15 && !text.contains(['/', ':', '\0']));
    }
    let Ok(args) = CniArgs::parse(text) else {
        assert!(text.split(';').any(|pair| !pair.is_empty() && !pair.contains('=')));
        return;
    };
    let written: Vec<_> = args.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(CniArgs::parse(&written.join(";")).expect("it was parsed before"), args);
    for (key, _) in args.iter() {
        let last = args.iter().filter(|(other, _)| *other == key).last();
        assert_eq!(args.get(key), last.map(|(_, value)| value));
    }
    let known: Vec<_> = args.iter().map(|(key, _)| key).collect();
    // Everything is known: only a nonsensical IgnoreUnknown is left to refuse.
    assert!(args.refuse_unknown(&known).is_ok() || args.get("IgnoreUnknown").is_some());
});
