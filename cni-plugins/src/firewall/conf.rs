//! What a configuration may say to `firewall`.

use std::path::PathBuf;

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode, PluginConf};
use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;
use netns_tools::link;

const DEFAULT_ADMIN_CHAIN: &str = "CNI-ADMIN";
const DEFAULT_ZONE: &str = "trusted";
const DEFAULT_DATA_DIR: &str = "/run/cni/firewall";
/// What the kernel takes for a chain's name, less the final zero byte.
const MAX_CHAIN: usize = 28;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// The backend that is asked for.
    pub backend: Option<Backend>,
    /// The chain of the administrator's own rules, which come first.
    pub admin_chain: String,
    /// firewalld's zone for containers.
    pub zone: String,
    /// Who may send to the containers of a bridge.
    pub policy: Policy,
    /// Where it is noted which addresses are whose.
    pub data_dir: PathBuf,
}

/// Who lets packets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// iptables rules of our own.
    Iptables,
    /// firewalld's.
    Firewalld,
}

/// Who may send to the containers of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everybody.
    Open,
    /// The containers of the same bridge, and whom they have asked themselves.
    SameBridge,
    /// Whom they have asked themselves, outside of their bridge.
    Isolated,
}

impl Policy {
    /// As configurations write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::SameBridge => "same-bridge",
            Self::Isolated => "isolated",
        }
    }
}

impl Conf {
    /// Reads and checks everything, before anything is done.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let keys = &call.conf;
        Ok(Self {
            backend: backend(keys)?,
            admin_chain: admin_chain(keys.text("iptablesAdminChainName")?)?,
            zone: zone(keys)?,
            policy: policy(keys)?,
            data_dir: data_dir(keys)?,
        })
    }

    /// The bridge to keep apart, if the policy is to keep one: the first interface of the result so far.
    pub fn isolated_bridge(&self, result: &CniResult) -> Result<Option<String>, Error> {
        if self.policy == Policy::Open {
            return Ok(None);
        }
        let policy = self.policy.word();
        let Some(first) = result.interfaces.first() else {
            return Err(invalid(format!(
                "interface needs to be set for ingress policy {policy:?}, make sure to chain \"firewall\" plugin with \"bridge\""
            )));
        };
        if first.name.is_empty() {
            return Err(invalid("got empty bridge name".to_owned()));
        }
        link::check_name(&first.name).map_err(|error| {
            invalid(format!("{:?} cannot be the name of a bridge", first.name))
                .with_details(error.to_string())
        })?;
        Ok(Some(first.name.clone()))
    }
}

/// What is read for DEL and GC: a value that ADD would refuse counts as not given.
pub fn asked_for(keys: &PluginConf) -> Option<Backend> {
    backend(keys).ok().flatten()
}

/// The zone, for DEL.
pub fn zone_or_default(keys: &PluginConf) -> String {
    zone(keys).unwrap_or_else(|_| DEFAULT_ZONE.to_owned())
}

/// The folder of records, for DEL and GC: what ADD would have refused holds none.
pub fn data_dir_or_default(keys: &PluginConf) -> PathBuf {
    data_dir(keys).unwrap_or_else(|_| PathBuf::from(DEFAULT_DATA_DIR))
}

fn data_dir(keys: &PluginConf) -> Result<PathBuf, Error> {
    let dir = PathBuf::from(keys.text("dataDir")?.unwrap_or_else(|| DEFAULT_DATA_DIR.to_owned()));
    if dir.is_absolute() {
        return Ok(dir);
    }
    let msg = format!("dataDir {:?} must be an absolute path", dir.display().to_string());
    Err(invalid(msg))
}

/// Any other word means that the plugin chooses, as in the reference.
fn backend(keys: &PluginConf) -> Result<Option<Backend>, Error> {
    Ok(match keys.text("backend")?.as_deref() {
        Some("iptables") => Some(Backend::Iptables),
        Some("firewalld") => Some(Backend::Firewalld),
        _ => None,
    })
}

fn zone(keys: &PluginConf) -> Result<String, Error> {
    Ok(keys.text("firewalldZone")?.unwrap_or_else(|| DEFAULT_ZONE.to_owned()))
}

fn admin_chain(name: Option<String>) -> Result<String, Error> {
    let Some(name) = name else { return Ok(DEFAULT_ADMIN_CHAIN.to_owned()) };
    let plain = |c: char| c.is_ascii_graphic() && !"\"'\\".contains(c);
    if name.len() > MAX_CHAIN || !name.chars().all(plain) || name.starts_with(['-', '!']) {
        let msg = format!("iptablesAdminChainName {name:?} cannot be the name of a chain");
        return Err(invalid(msg)
            .with_details(format!("a chain's name has up to {MAX_CHAIN} plain characters")));
    }
    Ok(name)
}

fn policy(keys: &PluginConf) -> Result<Policy, Error> {
    match keys.text("ingressPolicy")?.as_deref() {
        None | Some("open") => Ok(Policy::Open),
        Some("same-bridge") => Ok(Policy::SameBridge),
        Some("isolated") => Ok(Policy::Isolated),
        Some(other) => Err(invalid(format!("unknown ingress policy: {other:?}"))
            .with_details("write \"open\", \"same-bridge\" or \"isolated\"")),
    }
}

/// The addresses of a result, each as a network of its own.
pub fn hosts(result: Option<&CniResult>) -> Vec<IpNetwork> {
    let ips = result.map(|result| result.ips.as_slice()).unwrap_or_default();
    ips.iter().map(|ip| IpNetwork::from(ip.address.ip())).collect()
}

/// Those of one family.
pub fn of_family(hosts: &[IpNetwork], family: Family) -> Vec<IpNetwork> {
    hosts.iter().filter(|host| host.is_ipv4() == (family == Family::V4)).copied().collect()
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testcall::with_call;

    fn parse(extra: &Value) -> Result<Conf, Error> {
        let mut conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "firewall" });
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        with_call("", &conf, Conf::parse)
    }

    #[test]
    fn defaults_and_words() {
        let conf = parse(&json!({})).unwrap();
        assert_eq!((conf.backend, conf.policy), (None, Policy::Open));
        assert_eq!((conf.admin_chain.as_str(), conf.zone.as_str()), ("CNI-ADMIN", "trusted"));
        let backend = |word: &str| parse(&json!({ "backend": word })).unwrap().backend;
        assert_eq!(backend("iptables"), Some(Backend::Iptables));
        assert_eq!(backend("firewalld"), Some(Backend::Firewalld));
        assert_eq!(backend("whatever"), None);
    }

    #[test]
    fn refusals() {
        let cases = [
            (json!({ "ingressPolicy": "closed" }), "unknown ingress policy: \"closed\""),
            (json!({ "iptablesAdminChainName": "a b" }), "cannot be the name of a chain"),
            (json!({ "iptablesAdminChainName": "-A" }), "cannot be the name of a chain"),
            (json!({ "dataDir": "here" }), "must be an absolute path"),
        ];
        for (extra, msg) in cases {
            assert!(parse(&extra).unwrap_err().msg.contains(msg), "{msg}");
        }
        let conf = parse(&json!({ "ingressPolicy": "same-bridge" })).unwrap();
        let error = conf.isolated_bridge(&CniResult::default()).unwrap_err();
        assert!(
            error.msg.starts_with("interface needs to be set for ingress policy \"same-bridge\"")
        );
        let nameless =
            CniResult { interfaces: vec![cni::Interface::default()], ..CniResult::default() };
        assert_eq!(conf.isolated_bridge(&nameless).unwrap_err().msg, "got empty bridge name");
    }
}
