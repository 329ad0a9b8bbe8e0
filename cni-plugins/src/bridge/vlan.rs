//! The VLANs of a container's port: `vlan`, `vlanTrunk`, `preserveDefaultVlan`.

#[cfg(test)]
mod tests;

use cni::{Error, ErrorCode, PluginConf};
use netns_tools::PortVlan;
use serde::Deserialize;

/// What a trunk's frames without a tag belong to.
const NATIVE: u16 = 1;
/// The highest id; 4095 is reserved (IEEE 802.1Q).
const HIGHEST: u16 = 4094;

/// What a configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// The container's frames have no tag and belong to this VLAN.
    pub access: Option<u16>,
    /// VLANs whose frames have tags: first and last id, in order, apart from each other.
    pub trunk: Vec<(u16, u16)>,
    /// The port stays in the VLAN that the bridge puts every port into.
    pub keep_default: bool,
}

/// One entry of `vlanTrunk`.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "minID")]
    min: Option<i64>,
    #[serde(rename = "maxID")]
    max: Option<i64>,
    id: Option<i64>,
}

impl Vlans {
    /// Reads and checks the keys. `None`: there are no VLANs to keep apart.
    pub fn parse(keys: &PluginConf) -> Result<Option<Self>, Error> {
        let access: i64 = keys.get("vlan")?.unwrap_or(0);
        let access = u16::try_from(access).ok().filter(|id| *id <= HIGHEST).ok_or_else(|| {
            invalid(&format!("invalid VLAN ID {access} (must be between 0 and {HIGHEST})"))
        })?;
        let entries: Vec<Entry> = keys.get("vlanTrunk")?.unwrap_or_default();
        let keep_default = keys.is_on("preserveDefaultVlan")?;
        let mut trunk = Vec::new();
        for entry in &entries {
            trunk.extend(entry.ranges()?);
        }
        if access == 0 && trunk.is_empty() {
            return Ok(None);
        }
        let access = (access != 0).then_some(access);
        Ok(Some(Self { access, trunk: merged(trunk, access), keep_default }))
    }

    /// What the port must be put into.
    ///
    /// A trunk without `vlan` takes frames without a tag into VLAN 1, unless that one is in the trunk itself.
    pub fn wanted(&self) -> Vec<PortVlan> {
        let tagged = |(first, last): &(u16, u16)| PortVlan::tagged(*first, *last);
        let native_is_tagged = self.trunk.first().is_some_and(|(first, _)| *first == NATIVE);
        let native = self.access.or((!native_is_tagged).then_some(NATIVE));
        native.map(PortVlan::access).into_iter().chain(self.trunk.iter().map(tagged)).collect()
    }

    /// What the bridge put the port into and it must not stay in. `default` is the bridge's own VLAN; 0: it has none.
    pub fn unwanted(&self, default: Option<u16>) -> Option<PortVlan> {
        default.filter(|id| *id != 0 && !self.keep_default).map(PortVlan::access)
    }

    /// How the VLANs of a port differ from what ADD made.
    pub fn differences(&self, default: Option<u16>, present: &[PortVlan]) -> Vec<String> {
        let each = |vlan: PortVlan| {
            (vlan.first..=vlan.last).map(move |id| PortVlan { first: id, last: id, ..vlan })
        };
        let wanted: Vec<_> = self.wanted().into_iter().flat_map(each).collect();
        let missing = wanted.iter().filter(|vlan| !present.contains(vlan));
        let mut found: Vec<_> = missing.map(|vlan| format!("VLAN {vlan} is missing")).collect();
        let kept = |vlan: &PortVlan| self.keep_default && Some(vlan.first) == default;
        let others = present
            .iter()
            .filter(|vlan| !kept(vlan) && !wanted.iter().any(|wanted| wanted.first == vlan.first));
        found.extend(others.map(|vlan| format!("it is in VLAN {vlan}, too")));
        found
    }
}

impl Entry {
    /// The words of the errors are the reference's.
    fn ranges(&self) -> Result<Vec<(u16, u16)>, Error> {
        let id = |id: i64, what: &str| {
            let checked = u16::try_from(id).ok().filter(|id| (1..=HIGHEST).contains(id));
            checked.ok_or_else(|| {
                invalid(&format!("incorrect trunk {what} parameter")).with_details(format!(
                    "vlanTrunk has {what} {id}; it must be between 1 and {HIGHEST}"
                ))
            })
        };
        let mut ranges = Vec::new();
        match (self.min, self.max) {
            (Some(min), Some(max)) => {
                let (min, max) = (id(min, "minID")?, id(max, "maxID")?);
                if min > max {
                    return Err(invalid("minID is greater than maxID in trunk parameter"));
                }
                ranges.push((min, max));
            }
            (None, None) => {}
            (min, _) => {
                let missing = if min.is_none() { "minID" } else { "maxID" };
                return Err(invalid(&format!(
                    "minID and maxID should be configured simultaneously, {missing} is missing"
                )));
            }
        }
        if let Some(single) = self.id {
            let single = id(single, "id")?;
            ranges.push((single, single));
        }
        Ok(ranges)
    }
}

/// In order and without overlaps, and without the access VLAN: once more with tags, it would lose what it has without.
fn merged(mut ranges: Vec<(u16, u16)>, access: Option<u16>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut apart: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match apart.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    let Some(access) = access else { return apart };
    let without = |(first, last): (u16, u16)| {
        if !(first..=last).contains(&access) {
            return vec![(first, last)];
        }
        let parts = [(first, access - 1), (access + 1, last)];
        parts.into_iter().filter(|(first, last)| first <= last).collect()
    };
    apart.into_iter().flat_map(without).collect()
}

fn invalid(msg: &str) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
