//! What a configuration may say to `dhcp`.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use cni::args::CniArgs;
use cni::plugin::Call;
use cni::{Error, ErrorCode, PluginConf};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::message::{Options, code};

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/cni/dhcp.sock";

/// Option names of dhcp-options(5) that the reference knows.
const NAMES: [(&str, u8); 6] = [
    ("dhcp-client-identifier", code::CLIENT_ID),
    ("subnet-mask", code::SUBNET_MASK),
    ("routers", code::ROUTERS),
    ("host-name", code::HOST_NAME),
    ("user-class", code::USER_CLASS),
    ("vendor-class-identifier", code::VENDOR_CLASS),
];
/// What the protocol itself is made of. The reference would replace its own by the given ones.
const OWN: [u8; 8] = [
    code::PAD,
    code::REQUESTED_ADDRESS,
    code::OVERLOAD,
    code::MESSAGE_TYPE,
    code::SERVER,
    code::PARAMETERS,
    code::MAX_SIZE,
    code::END,
];
/// What is asked for unless the configuration says otherwise.
const USUAL: [u8; 2] = [code::ROUTERS, code::SUBNET_MASK];
/// The longest value of an option, in bytes.
const LONGEST: usize = 255;
/// All that is provided, with the two bytes before each value: it has to fit into a frame with the rest of the message.
const MOST: usize = 900;

/// A checked configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Conf {
    /// Where the daemon is.
    pub socket: PathBuf,
    /// Options that servers are told.
    pub provide: Options,
    /// Options that servers are asked for.
    pub request: Vec<u8>,
    /// The metric of the routes.
    pub priority: Option<u32>,
}

#[derive(Deserialize)]
struct Provide {
    #[serde(default)]
    option: String,
    value: Option<String>,
    #[serde(rename = "fromArg")]
    from_arg: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default, rename = "skipDefault")]
    skip_default: bool,
    option: Option<String>,
}

impl Conf {
    /// Reads and checks everything. `CNI_ARGS` may hold anything, as in the reference.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let keys = &call.conf;
        if keys.get::<Map<String, Value>>("ipam")?.is_none() {
            return Err(invalid("IPAM config missing 'ipam' key"));
        }
        Ok(Self {
            socket: socket(keys)?,
            provide: provide(keys, &call.args)?,
            request: request(keys)?,
            priority: keys.get("ipam.priority")?.filter(|priority| *priority != 0),
        })
    }
}

/// All that DEL and GC need.
pub fn socket(keys: &PluginConf) -> Result<PathBuf, Error> {
    Ok(keys.text("ipam.daemonSocketPath")?.unwrap_or_else(|| DEFAULT_SOCKET.to_owned()).into())
}

/// Of an option that is given twice the last value counts, and one from `CNI_ARGS` before the one beside it.
fn provide(keys: &PluginConf, args: &CniArgs) -> Result<Options, Error> {
    let mut options = Options::new();
    for entry in keys.get::<Vec<Provide>>("ipam.provide")?.unwrap_or_default() {
        let option = option_code(&entry.option)?;
        if OWN.contains(&option) {
            let msg = format!("option {:?} cannot be provided", entry.option);
            return Err(invalid(&msg).with_details("it belongs to the protocol itself"));
        }
        let from_arg = entry.from_arg.as_deref().filter(|key| !key.is_empty());
        let argument = from_arg.and_then(|key| args.get(key).map(|value| (key, value)));
        let value = argument.map(|(_, value)| value).or(entry.value.as_deref());
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if value.len() > LONGEST {
            let source =
                argument.map_or(String::new(), |(key, _)| format!(" from CNI_ARGS {key:?}"));
            let msg = format!("value too long for option {:?}{source}: {value:?}", entry.option);
            return Err(invalid(&msg).with_details(format!("an option holds {LONGEST} bytes")));
        }
        options.insert(option, value.as_bytes().to_vec());
    }
    let total: usize = options.values().map(|value| value.len() + 2).sum();
    if total > MOST {
        let msg = format!("the options to provide are {total} bytes long together");
        return Err(invalid(&msg).with_details(format!("there is room for {MOST}")));
    }
    Ok(options)
}

/// Classless routes come first: a server may look no further than it can answer (RFC 3442).
fn request(keys: &PluginConf) -> Result<Vec<u8>, Error> {
    let entries: Vec<Request> = keys.get("ipam.request")?.unwrap_or_default();
    let mut codes: Vec<u8> = Vec::new();
    if !entries.iter().any(|entry| entry.skip_default) {
        codes.extend(USUAL);
    }
    for entry in entries {
        if let Some(name) = entry.option.filter(|name| !name.is_empty()) {
            codes.push(option_code(&name)?);
        }
    }
    codes.retain(|option| !matches!(*option, code::PAD | code::END));
    codes.sort_by_key(|option| (*option != code::CLASSLESS_ROUTES, *option));
    codes.dedup();
    Ok(codes)
}

/// An option by its name or its number.
fn option_code(name: &str) -> Result<u8, Error> {
    if let Some((_, option)) = NAMES.iter().find(|(own, _)| *own == name) {
        return Ok(*option);
    }
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| digits).ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        invalid(&format!("Can not parse option {name:?}"))
            .with_details(format!("write a number up to 255, or one of {}", names.join(", ")))
    })
}

fn invalid(msg: &str) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
