//! What a Service gets and gives back when it is made, changed or deleted. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::families::{Family, Wishes};
use super::ledger::{address_key, port_key, take};
use super::{AllocateError, Claims, Dice, Ledger, Ranges};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::go_value;
use crate::store::{Condition, Operation, Write};

/// A Service with its addresses, and what must be written in the same transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The Service as it is to be stored.
    pub service: Value,
    /// What is taken and given back.
    pub operations: Vec<Operation>,
}

/// A Service is made.
pub fn create(
    ranges: &Ranges,
    ledger: &Ledger,
    service: &Value,
    dice: &mut Dice,
    now: Timestamp,
) -> Result<Plan, AllocateError> {
    change(ranges, ledger, service, &Value::Null, dice, now)
}

/// A Service is changed. What the new one leaves out and the old one has stays; what is neither said nor had is given; what is no longer
/// needed is given back.
pub fn update(
    ranges: &Ranges,
    ledger: &Ledger,
    service: &Value,
    old: &Value,
    dice: &mut Dice,
    now: Timestamp,
) -> Result<Plan, AllocateError> {
    check_shape(service)?;
    let service = carried_over(service, old);
    let mistakes = super::change::mistakes(&service["spec"], &old["spec"]);
    if !mistakes.is_empty() {
        return Err(AllocateError::Invalid(mistakes));
    }
    change(ranges, ledger, &service, old, dice, now)
}

/// A Service is gone: what it had is given back.
pub fn delete(ledger: &Ledger, service: &Value) -> Vec<Operation> {
    release(ledger, &owner_of(service), &Claims::of(service), &Claims::default())
}

fn change(
    ranges: &Ranges,
    ledger: &Ledger,
    service: &Value,
    old: &Value,
    dice: &mut Dice,
    now: Timestamp,
) -> Result<Plan, AllocateError> {
    check_shape(service)?;
    let owner = owner_of(service);
    let mut planner = Planner { ranges, ledger, dice, owner: &owner, taken: BTreeSet::new() };
    let mut service = service.clone();
    planner.addresses(&mut service["spec"])?;
    planner.ports(&mut service["spec"])?;
    let (had, has) = (Claims::of(old), Claims::of(&service));
    let kept = keys(&had);
    // What the old Service had is guarded by the condition on the Service itself.
    let mut operations: Vec<_> = keys(&has)
        .into_iter()
        .filter(|key| !(kept.contains(key) && planner.owns(key)))
        .map(|key| planner.claim(key, now))
        .collect();
    operations.extend(release(ledger, &owner, &had, &has));
    Ok(Plan { service, operations })
}

/// The schema has refused other shapes before; here they would be a panic.
fn check_shape(service: &Value) -> Result<(), AllocateError> {
    let (path, spec) = (FieldPath::root("spec"), &service["spec"]);
    let ports = spec["ports"].as_array().into_iter().flatten().enumerate();
    let mut all = ports.map(|(index, port)| (path.field("ports").index(index), port));
    let wrong = if spec.is_object() {
        all.find(|(_, port)| !port.is_object())
    } else {
        Some((path.clone(), spec))
    };
    wrong.map_or(Ok(()), |(path, value)| {
        let mistake =
            FieldError::new(path, Mistake::TypeInvalid(value.clone()), "must be an object");
        Err(AllocateError::Invalid(vec![mistake]))
    })
}

/// Finds what is free for one Service.
struct Planner<'a> {
    ranges: &'a Ranges,
    ledger: &'a Ledger,
    dice: &'a mut Dice,
    owner: &'a str,
    /// Keys that this plan has chosen already.
    taken: BTreeSet<String>,
}

impl Planner<'_> {
    /// Fills in `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`.
    fn addresses(&mut self, spec: &mut Value) -> Result<(), AllocateError> {
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        let wishes = Wishes::read(spec).map_err(AllocateError::Invalid)?;
        let chosen = wishes.choose(&self.ranges.families()).map_err(AllocateError::Invalid)?;
        let words: Vec<_> = chosen.families.iter().map(|family| family.as_str()).collect();
        spec["ipFamilies"] = json!(words);
        spec["ipFamilyPolicy"] = json!(chosen.policy);
        if wishes.headless {
            (spec["clusterIP"], spec["clusterIPs"]) = (json!("None"), json!(["None"]));
            return Ok(());
        }
        let mut addresses = Vec::new();
        for (index, family) in chosen.families.iter().enumerate() {
            addresses.push(match wishes.addresses.get(index) {
                Some(address) => self.chosen_address(*address, &wishes.addresses)?,
                None => self.any_address(*family)?,
            });
        }
        spec["clusterIP"] = json!(addresses.first());
        spec["clusterIPs"] = json!(addresses);
        Ok(())
    }

    fn chosen_address(&mut self, address: IpAddr, all: &[IpAddr]) -> Result<IpAddr, AllocateError> {
        let key = address_key(address);
        if self.owns(&key) {
            return Ok(address);
        }
        let why = if !self.ranges.holds(address) {
            let ranges: Vec<_> = self.ranges.services.iter().map(ToString::to_string).collect();
            let ranges = ranges.join(",");
            format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {ranges}"
            )
        } else if self.is_taken(&key) {
            "provided IP is already allocated".to_owned()
        } else {
            self.taken.insert(key);
            return Ok(address);
        };
        let path = FieldPath::root("spec").field("clusterIPs");
        let why = format!("failed to allocate IP {address}: {why}");
        let mistake = FieldError::new(path, Mistake::Invalid(json!(all)), why);
        Err(AllocateError::Invalid(vec![mistake.of(&go_value::TEXTS)]))
    }

    fn any_address(&mut self, family: Family) -> Result<IpAddr, AllocateError> {
        let Self { ranges, ledger, dice, taken, .. } = self;
        let busy = |key: String| taken.contains(&key) || ledger.holding(&key).is_some();
        let found = ranges.free_address(family, dice, |address| busy(address_key(address)));
        let address = found.ok_or(AllocateError::AddressesFull(family.as_str()))?;
        self.taken.insert(address_key(address));
        Ok(address)
    }

    /// Fills in `nodePort` of every port and `healthCheckNodePort`, or takes them out where the type has none.
    fn ports(&mut self, spec: &mut Value) -> Result<(), AllocateError> {
        let path = FieldPath::root("spec");
        let (wanted, health) = (needs_node_ports(spec), needs_health_check(spec));
        // Ports that are said come first, so that what is given does not take them.
        let numbers: Vec<_> = numbers(spec);
        for (index, number) in numbers.iter().enumerate().filter(|(_, number)| **number != 0) {
            self.chosen_port(*number, path.field("ports").index(index).field("nodePort"))?;
        }
        let said = spec["healthCheckNodePort"].as_i64().filter(|number| *number != 0);
        if let Some(number) = said.filter(|_| health) {
            self.chosen_port(number, path.field("healthCheckNodePort"))?;
        }
        self.fill_in(spec, &numbers, wanted)?;
        if health && said.is_none() {
            spec["healthCheckNodePort"] = json!(self.any_port()?);
        }
        Ok(())
    }

    /// A port of TCP and one of UDP of the same number share a node port, as DNS needs it.
    fn fill_in(
        &mut self,
        spec: &mut Value,
        said: &[i64],
        wanted: bool,
    ) -> Result<(), AllocateError> {
        let ports = spec["ports"].as_array_mut().into_iter().flatten();
        let mut given: Vec<(Value, Value, u16)> = Vec::new();
        for (port, _) in ports.zip(said).filter(|(_, said)| wanted && **said == 0) {
            let (number, protocol) = (port["port"].clone(), port["protocol"].clone());
            let shared =
                |(other, by, _): &&(Value, Value, u16)| *other == number && *by != protocol;
            let node_port = match given.iter().find(shared) {
                Some((_, _, shared)) => *shared,
                None => self.any_port()?,
            };
            port["nodePort"] = json!(node_port);
            given.push((number, protocol, node_port));
        }
        Ok(())
    }

    fn chosen_port(&mut self, number: i64, path: FieldPath) -> Result<(), AllocateError> {
        let range = &self.ranges.node_ports;
        let port = u16::try_from(number).ok().filter(|port| range.contains(port));
        let key = port.map(port_key);
        let why = match &key {
            Some(key) if self.owns(key) => return Ok(()),
            None => {
                let (first, last) = (range.start(), range.end());
                format!(
                    "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                )
            }
            Some(key) if self.ledger.holding(key).is_some() => {
                "provided port is already allocated".to_owned()
            }
            Some(key) => {
                self.taken.insert(key.clone());
                return Ok(());
            }
        };
        Err(AllocateError::Invalid(vec![FieldError::new(
            path,
            Mistake::Invalid(json!(number)),
            why,
        )]))
    }

    fn any_port(&mut self) -> Result<u16, AllocateError> {
        let Self { ranges, ledger, dice, taken, .. } = self;
        let busy = |key: String| taken.contains(&key) || ledger.holding(&key).is_some();
        let range = &ranges.node_ports;
        let full = || AllocateError::PortsFull(*range.start(), *range.end());
        let port = ranges.free_port(dice, |port| busy(port_key(port))).ok_or_else(full)?;
        self.taken.insert(port_key(port));
        Ok(port)
    }

    fn owns(&self, key: &str) -> bool {
        self.ledger.holding(key).is_some_and(|holding| holding.owner == self.owner)
    }

    /// Takes a key, or makes sure that one which seems to be the Service's is: there may have been another of the same name.
    fn claim(&self, key: String, now: Timestamp) -> Operation {
        match self.ledger.holding(&key).filter(|holding| holding.owner == self.owner) {
            Some(held) => {
                Operation { key, condition: Condition::At(held.revision), write: Write::Check }
            }
            None => take(key, Condition::Absent, self.owner, now),
        }
    }

    fn is_taken(&self, key: &str) -> bool {
        self.taken.contains(key) || self.ledger.holding(key).is_some()
    }
}

/// Gives back what a Service had and has no more, as far as it is its.
fn release(ledger: &Ledger, owner: &str, had: &Claims, has: &Claims) -> Vec<Operation> {
    let kept = keys(has);
    let gone = keys(had).into_iter().filter(|key| !kept.contains(key));
    let given_back = gone.filter_map(|key| {
        let holding = ledger.holding(&key).filter(|holding| holding.owner == owner)?;
        Some(Operation { condition: Condition::At(holding.revision), write: Write::Delete, key })
    });
    given_back.collect()
}

pub(super) fn keys(claims: &Claims) -> Vec<String> {
    let addresses = claims.addresses.iter().copied().map(address_key);
    addresses.chain(claims.ports.iter().copied().map(port_key)).collect()
}

/// `namespace/name`
pub(super) fn owner_of(service: &Value) -> String {
    let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// A changed Service with what it leaves out and the old one has. What its type does not have any more is taken out, unless the caller
/// asks for something else than there was, which is a mistake to be told of.
fn carried_over(service: &Value, old: &Value) -> Value {
    let mut service = service.clone();
    let (spec, before) = (&mut service["spec"], &old["spec"]);
    if spec["type"] == "ExternalName" || before["type"] == "ExternalName" {
        return without_unneeded(service, before);
    }
    let (single, listed) = (spec["clusterIP"].as_str(), super::families::cluster_ips(spec));
    if single.is_none_or(str::is_empty) && listed.is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            spec[field] = before[field].clone();
        }
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if spec[field].is_null() {
            spec[field] = before[field].clone();
        }
    }
    if spec["ipFamilyPolicy"] == "SingleStack" && before["ipFamilyPolicy"] != "SingleStack" {
        for field in ["clusterIPs", "ipFamilies"] {
            if spec[field] == before[field]
                && let Some(list) = spec[field].as_array_mut()
            {
                list.truncate(1);
            }
        }
    }
    carry_ports(spec, before);
    without_unneeded(service, before)
}

fn carry_ports(spec: &mut Value, before: &Value) {
    let old = before["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    let used: BTreeSet<_> = numbers(spec).into_iter().collect();
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        let same =
            |other: &&Value| other["port"] == port["port"] && protocol(other) == protocol(port);
        let found = old.iter().find(same).and_then(|other| other["nodePort"].as_i64());
        let unsaid = port["nodePort"].as_i64().unwrap_or_default() == 0;
        if let Some(number) = found.filter(|number| unsaid && !used.contains(number)) {
            port["nodePort"] = json!(number);
        }
    }
    if spec["healthCheckNodePort"].as_i64().unwrap_or_default() == 0 {
        let had = before["healthCheckNodePort"].as_i64().filter(|number| *number != 0);
        if let Some(number) = had {
            spec["healthCheckNodePort"] = json!(number);
        }
    }
}

/// Takes out what a Service of this type does not have: a client that changes the type sends the rest as it was.
fn without_unneeded(mut service: Value, before: &Value) -> Value {
    let spec = &mut service["spec"];
    let (ports, health) = (may_have_node_ports(spec), needs_health_check(spec));
    if !ports && may_have_node_ports(before) && same_node_ports(spec, before) {
        for port in spec["ports"].as_array_mut().into_iter().flatten() {
            port.as_object_mut().map(|fields| fields.remove("nodePort"));
        }
    }
    let external = spec["type"] == "ExternalName";
    if let Some(fields) = spec.as_object_mut() {
        let mut drop = |field: &str| {
            if fields.get(field).is_some_and(|value| *value == before[field]) {
                fields.remove(field);
            }
        };
        if !health {
            drop("healthCheckNodePort");
        }
        if external {
            ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"].into_iter().for_each(drop);
        }
        fields.retain(|_, value| !value.is_null());
    }
    service
}

/// All node ports that a spec asks for are those that there were.
fn same_node_ports(spec: &Value, before: &Value) -> bool {
    let had = numbers(before);
    numbers(spec).into_iter().all(|number| number == 0 || had.contains(&number))
}

fn numbers(spec: &Value) -> Vec<i64> {
    let ports = spec["ports"].as_array().into_iter().flatten();
    ports.map(|port| port["nodePort"].as_i64().unwrap_or_default()).collect()
}

fn may_have_node_ports(spec: &Value) -> bool {
    spec["type"] == "NodePort" || spec["type"] == "LoadBalancer"
}

fn needs_node_ports(spec: &Value) -> bool {
    may_have_node_ports(spec)
        && !(spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] == false)
}

fn needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}
