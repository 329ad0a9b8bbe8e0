//! What a configuration may say to `sbr`.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use cni::{Error, ErrorCode, PluginConf};

/// A checked configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// Only add rules, which lead to this table: whoever set the container up has filled it.
    pub table: Option<u32>,
    /// The IPv4 gateway, in place of the addresses' own.
    pub gateway_v4: Option<IpAddr>,
    /// The IPv6 gateway, in place of the addresses' own.
    pub gateway_v6: Option<IpAddr>,
    /// The interface's routes stay in the main table as well, with its address as the source to use.
    pub source_hints: bool,
}

impl Conf {
    /// Reads and checks everything.
    pub fn parse(keys: &PluginConf) -> Result<Self, Error> {
        let mut conf = Self {
            table: table(keys)?,
            source_hints: keys.is_on("addSourceHints")?,
            ..Self::default()
        };
        for gateway in keys.get::<Vec<String>>("gateways")?.unwrap_or_default() {
            let address = parse_gateway(&gateway)?;
            let place = if address.is_ipv4() { &mut conf.gateway_v4 } else { &mut conf.gateway_v6 };
            if let Some(other) = place.replace(address) {
                let msg = "gateways: at most one IPv4 and one IPv6 address";
                return Err(Error::new(ErrorCode::InvalidConfig, msg)
                    .with_details(format!("it has {other} and {address}")));
            }
        }
        Ok(conf)
    }

    /// The gateway for an address, `own` being the one that it came with.
    pub fn gateway(&self, v4: bool, own: Option<IpAddr>) -> Option<IpAddr> {
        if v4 { self.gateway_v4.or(own) } else { self.gateway_v6.or(own) }
    }
}

/// The table of DEL's configuration, however wrong the rest is.
pub fn table(keys: &PluginConf) -> Result<Option<u32>, Error> {
    let table: Option<u32> = keys.get("table")?;
    if table == Some(0) {
        let msg = "table 0 is no routing table";
        return Err(Error::new(ErrorCode::InvalidConfig, msg)
            .with_details("give 1 to 4294967295, or leave it out for a free one"));
    }
    Ok(table)
}

fn parse_gateway(text: &str) -> Result<IpAddr, Error> {
    let address = text.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
    address.ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, format!("gateways: {text:?} is not an IP address"))
            .with_details("write it without a prefix length, such as \"10.1.0.1\" or \"fd00::1\"")
    })
}
