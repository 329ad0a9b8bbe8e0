//! Results of other plugins and `prevResult`: read or refused; and what was read can be written and read again, in every version
//! that can express it, without a change.
#![no_main]

use cni::{CniResult, Version};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return };
    for version in Version::ALL {
        let Ok(result) = CniResult::read(&document, *version) else { continue };
        for version in Version::ALL {
            let Ok(written) = result.to_json(*version) else { continue };
            let read = CniResult::from_json(&written, *version);
            let read = read.unwrap_or_else(|error| panic!("{error:?} in {written}"));
            let again = read.to_json(*version).unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(again, written, "{version}");
            if *version == Version::LATEST {
                assert_eq!(read, result, "the newest version loses nothing");
            }
        }
    }
});
