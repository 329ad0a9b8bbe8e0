//! What a configuration may say to `dummy`.

use cni::Error;
use cni::plugin::Call;

use crate::sublink::{Addresses, Kind, Master, Sublink, invalid};

/// Reads and checks everything: there is only the IPAM plugin.
pub fn parse(call: &Call<'_>) -> Result<Sublink, Error> {
    let Some(ipam) = call.conf.ipam_type.clone() else {
        return Err(invalid("dummy interface requires an IPAM configuration"));
    };
    Ok(Sublink {
        kind: Kind::Dummy,
        master: Master::None,
        in_container: false,
        mtu: 0,
        mac: None,
        addresses: Addresses::Ipam(ipam),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testcall::with_call;

    #[test]
    fn ipam_is_required() {
        let conf = json!({ "cniVersion": "1.0.0", "name": "n", "type": "dummy" });
        let error = with_call("", &conf, parse).unwrap_err();
        assert_eq!(error.msg, "dummy interface requires an IPAM configuration");
        let conf = json!({ "cniVersion": "1.0.0", "name": "n", "type": "dummy", "ipam": { "type": "static" } });
        // The reference does not look at CNI_ARGS, so nothing in it is unknown.
        let wanted = with_call("A=b", &conf, parse).unwrap();
        assert_eq!(wanted.addresses, Addresses::Ipam("static".into()));
        assert_eq!((wanted.kind, wanted.master), (Kind::Dummy, Master::None));
    }
}
