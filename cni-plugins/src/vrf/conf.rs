//! What a configuration may say to `vrf`.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode};
use netns_tools::link;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// The VRF's name.
    pub name: String,
    /// Its routing table; `None`: that of the VRF which is there, else a free one.
    pub table: Option<u32>,
}

impl Conf {
    /// Reads and checks everything, before anything is done.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let name = name(call)?;
        link::check_name(&name).map_err(|error| {
            let msg = format!("vrfname {name:?} cannot be the name of an interface");
            Error::new(ErrorCode::InvalidConfig, msg).with_details(error.to_string())
        })?;
        let table = call.conf.get("table")?.filter(|table| *table != 0);
        Ok(Self { name, table })
    }
}

/// The VRF's name alone, for DEL.
pub fn name(call: &Call<'_>) -> Result<String, Error> {
    call.conf.text("vrfname")?.ok_or_else(|| {
        let msg = "configuration is expected to have a valid vrf name";
        Error::new(ErrorCode::InvalidConfig, msg).with_details("set \"vrfname\"")
    })
}

/// What the chain made before, which ADD and CHECK need.
pub fn promised<'a>(call: &'a Call<'_>) -> Result<&'a CniResult, Error> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "missing prevResult from earlier plugin")
            .with_details("vrf takes an interface that an earlier plugin of the chain made")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testcall::with_call;

    fn parse(extra: Value) -> Result<Conf, Error> {
        let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "vrf" });
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        with_call("", &conf, Conf::parse)
    }

    #[test]
    fn keys() {
        let conf = |name: &str, table| Conf { name: name.into(), table };
        assert_eq!(parse(json!({ "vrfname": "blue" })), Ok(conf("blue", None)));
        assert_eq!(parse(json!({ "vrfname": "blue", "table": 0 })), Ok(conf("blue", None)));
        let large = json!({ "vrfname": "blue", "table": 4_294_967_295_u32 });
        assert_eq!(parse(large), Ok(conf("blue", Some(u32::MAX))));
    }

    #[test]
    fn refusals() {
        let missing = "configuration is expected to have a valid vrf name";
        for (extra, code, msg) in [
            (json!({}), 7, missing),
            (json!({ "vrfname": "" }), 7, missing),
            (json!({ "vrfname": "a/b" }), 7, "vrfname \"a/b\" cannot be the name of an interface"),
        ] {
            let error = parse(extra).unwrap_err();
            assert_eq!((error.code.code(), error.msg.as_str()), (code, msg));
        }
        for table in [json!(-1), json!("1"), json!(4_294_967_296_u64)] {
            let error = parse(json!({ "vrfname": "blue", "table": table })).unwrap_err();
            assert_eq!(error.code.code(), 6, "{table}");
        }
    }
}
