//! What is asked for beside the network's configuration: `CNI_ARGS`, and the MAC address, which may come from several places.

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use netns_tools::MacAddr;

/// What `CNI_ARGS` may hold without `IgnoreUnknown`. The reference's plugins know their own (`MAC`, or `IP` and `GATEWAY`), so that
/// what is for the IPAM plugin makes `bridge` fail, and what is for `bridge` the IPAM plugin; a quirk that is not copied.
const KNOWN_ARGS: [&str; 3] = ["GATEWAY", "IP", "MAC"];

/// Stands for `CNI_ARGS` among the sources of a MAC address.
pub const CNI_ARGS_MAC: &str = "CNI_ARGS MAC";

/// Refuses `CNI_ARGS` that no plugin knows.
pub fn refuse_unknown_args(call: &Call<'_>) -> Result<(), Error> {
    call.args.refuse_unknown(&KNOWN_ARGS)
}

/// Where a plugin looks for the MAC address.
pub struct Mac {
    /// Keys of the configuration and [`CNI_ARGS_MAC`]: the last one that is given wins.
    pub sources: &'static [&'static str],
    /// What is said of a text that is none.
    pub refusal: fn(&str) -> String,
}

impl Mac {
    /// The address of one interface that is asked for.
    pub fn asked(&self, call: &Call<'_>) -> Result<Option<MacAddr>, Error> {
        let Some(text) = self.text(call)? else { return Ok(None) };
        let mac: MacAddr = text.parse().map_err(|_| self.invalid((self.refusal)(&text)))?;
        if mac.is_unicast() {
            return Ok(Some(mac));
        }
        let why = "cannot be an interface's: it is a group's or all zero";
        Err(self.invalid(format!("MAC address {mac} {why}")))
    }

    fn text(&self, call: &Call<'_>) -> Result<Option<String>, Error> {
        let mut last = None;
        for source in self.sources {
            let given = if *source == CNI_ARGS_MAC {
                call.args.get("MAC").filter(|mac| !mac.is_empty()).map(str::to_owned)
            } else {
                call.conf.text(source)?
            };
            last = given.or(last);
        }
        Ok(last)
    }

    fn invalid(&self, msg: String) -> Error {
        let source = match self.sources {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            sources => sources.concat(),
        };
        Error::new(ErrorCode::InvalidConfig, msg).with_details(format!("it comes from {source}"))
    }
}

/// The refusal of most plugins.
pub fn not_a_mac(text: &str) -> String {
    format!("{text:?} is not a MAC address such as \"0a:58:0a:01:00:02\"")
}

/// The refusal of `tap` and `tuning`, which begins like the reference's.
pub fn invalid_args(text: &str) -> String {
    format!("invalid args {text} for MAC addr: it is not a MAC address")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testcall::with_call;

    const MAC: Mac = Mac { sources: &["mac", CNI_ARGS_MAC, "args.cni.mac"], refusal: not_a_mac };

    fn asked(args: &str, keys: Value) -> Result<Option<String>, Error> {
        let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "x" });
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        with_call(args, &conf, |call| Ok(MAC.asked(call)?.map(|mac| mac.to_string())))
    }

    #[test]
    fn the_last_one_that_is_given_wins() {
        let text = |n: u8| format!("0a:58:00:00:00:{n:02x}");
        let args = format!("MAC={}", text(2));
        assert_eq!(asked("", json!({})), Ok(None));
        assert_eq!(asked("", json!({ "mac": text(1) })), Ok(Some(text(1))));
        assert_eq!(asked(&args, json!({ "mac": text(1) })), Ok(Some(text(2))));
        let cni = json!({ "mac": text(1), "args": { "cni": { "mac": text(3) } } });
        assert_eq!(asked(&args, cni), Ok(Some(text(3))));
        assert_eq!(
            asked("MAC=", json!({ "mac": text(1) })),
            Ok(Some(text(1))),
            "empty is not given"
        );
    }

    #[test]
    fn refusals_say_where_it_may_come_from() {
        for (mac, msg) in [
            ("x", "\"x\" is not a MAC address such as \"0a:58:0a:01:00:02\""),
            (
                "01:00:00:00:00:01",
                "MAC address 01:00:00:00:00:01 cannot be an interface's: it is a group's or all zero",
            ),
        ] {
            let error = asked("", json!({ "mac": mac })).unwrap_err();
            assert_eq!((error.code.code(), error.msg.as_str()), (7, msg));
            assert_eq!(error.details, "it comes from mac, CNI_ARGS MAC or args.cni.mac");
        }
    }
}
