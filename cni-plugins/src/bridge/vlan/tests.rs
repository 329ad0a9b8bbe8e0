use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn parse(keys: &Value) -> Result<Option<Vlans>, Error> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge" });
    conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    with_call("", &conf, |call| Vlans::parse(&call.conf))
}

fn words(vlans: &[PortVlan]) -> Vec<String> {
    vlans.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_port_is_put_into() {
    let cases = [
        (json!({ "vlan": 100 }), "100 PVID untagged", "1"),
        (json!({ "vlan": 1 }), "1 PVID untagged", "1"),
        (json!({ "vlan": 4094, "preserveDefaultVlan": true }), "4094 PVID untagged", ""),
        (json!({ "vlanTrunk": [{ "id": 5 }] }), "1 PVID untagged, 5", "1"),
        (
            json!({ "vlanTrunk": [{ "minID": 10, "maxID": 20 }, { "id": 7 }, { "minID": 15, "maxID": 30, "id": 31 }] }),
            "1 PVID untagged, 7, 10-31",
            "1",
        ),
        // Who wants VLAN 1 with tags has it with tags.
        (json!({ "vlanTrunk": [{ "minID": 1, "maxID": 4094 }] }), "1-4094", "1"),
        (
            json!({ "vlan": 5, "vlanTrunk": [{ "minID": 1, "maxID": 9 }] }),
            "5 PVID untagged, 1-4, 6-9",
            "1",
        ),
        (
            json!({ "vlan": 1, "vlanTrunk": [{ "minID": 1, "maxID": 2 }] }),
            "1 PVID untagged, 2",
            "1",
        ),
        (json!({ "vlan": 5, "vlanTrunk": [{ "id": 5 }, {}] }), "5 PVID untagged", "1"),
    ];
    for (keys, wanted, removed) in cases {
        let vlans = parse(&keys).unwrap().unwrap();
        assert_eq!(words(&vlans.wanted()).join(", "), wanted, "{keys}");
        let unwanted = vlans.unwanted(Some(1)).map(|vlan| vlan.first.to_string());
        assert_eq!(unwanted.unwrap_or_default(), removed, "{keys}");
    }
    for none in [
        json!({}),
        json!({ "vlan": 0 }),
        json!({ "vlanTrunk": [] }),
        json!({ "vlanTrunk": [{}], "preserveDefaultVlan": true }),
    ] {
        assert_eq!(parse(&none).unwrap(), None, "{none}");
    }
    let vlans = parse(&json!({ "vlan": 100 })).unwrap().unwrap();
    assert_eq!([vlans.unwanted(None), vlans.unwanted(Some(0))], [None, None]);
    assert_eq!(vlans.unwanted(Some(9)), Some(PortVlan::access(9)), "a bridge with another default");
}

#[test]
fn errors_are_the_reference_s() {
    let trunk = |entry: Value| json!({ "vlanTrunk": [{ "id": 3 }, entry] });
    let cases = [
        (json!({ "vlan": 4095 }), "invalid VLAN ID 4095 (must be between 0 and 4094)"),
        (json!({ "vlan": -1 }), "invalid VLAN ID -1 (must be between 0 and 4094)"),
        (trunk(json!({ "id": 0 })), "incorrect trunk id parameter"),
        (trunk(json!({ "id": 70000 })), "incorrect trunk id parameter"),
        (trunk(json!({ "minID": 0, "maxID": 5 })), "incorrect trunk minID parameter"),
        (trunk(json!({ "minID": 1, "maxID": 4095 })), "incorrect trunk maxID parameter"),
        (
            trunk(json!({ "minID": 6, "maxID": 5 })),
            "minID is greater than maxID in trunk parameter",
        ),
        (
            trunk(json!({ "maxID": 5 })),
            "minID and maxID should be configured simultaneously, minID is missing",
        ),
        (
            trunk(json!({ "minID": 5 })),
            "minID and maxID should be configured simultaneously, maxID is missing",
        ),
    ];
    for (keys, message) in cases {
        let error = parse(&keys).unwrap_err();
        assert_eq!((error.msg.as_str(), error.code.code()), (message, 7), "{keys}");
    }
    assert_eq!(parse(&trunk(json!({ "id": "5" }))).unwrap_err().code.code(), 6);
}

#[test]
fn drift() {
    let vlans =
        parse(&json!({ "vlan": 100, "vlanTrunk": [{ "minID": 7, "maxID": 8 }] })).unwrap().unwrap();
    let good = [PortVlan::access(100), PortVlan::tagged(7, 7), PortVlan::tagged(8, 8)];
    assert_eq!(vlans.differences(Some(1), &good), [""; 0]);
    let damaged = [PortVlan::access(1), PortVlan::tagged(100, 100), PortVlan::tagged(8, 8)];
    assert_eq!(
        vlans.differences(Some(1), &damaged),
        [
            "VLAN 100 PVID untagged is missing",
            "VLAN 7 is missing",
            "it is in VLAN 1 PVID untagged, too"
        ]
    );
    let keeps = Vlans { keep_default: true, ..vlans };
    let with_default = [&good[..], &[PortVlan::tagged(1, 1)]].concat();
    assert_eq!(keeps.differences(Some(1), &with_default), [""; 0]);
}
