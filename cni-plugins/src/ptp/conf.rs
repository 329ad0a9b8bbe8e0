//! What a configuration may say to `ptp`.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{Error, ErrorCode};

use crate::masquerade::{self, Backend};
use crate::veth;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Masquerade what leaves the container's network, and with what.
    pub masquerade: Option<Backend>,
    /// MTU of the veth pair; `None`: the kernel's default.
    pub mtu: Option<u32>,
    /// The IPAM plugin.
    pub ipam: String,
}

impl Conf {
    /// Reads and checks everything, before anything is done.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let keys = &call.conf;
        let masquerade = masquerade::wanted(keys)?;
        let ipam = keys.ipam_type.clone().ok_or_else(|| {
            invalid("ptp requires an IPAM configuration".into())
                .with_details("without an address nothing leads to the container: set ipam.type, for example to \"host-local\"")
        })?;
        Ok(Self { masquerade, mtu: veth::mtu(keys)?, ipam })
    }
}

fn invalid(msg: String) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
