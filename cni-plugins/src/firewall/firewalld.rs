//! firewalld: a container's address becomes a source of a zone whose packets are let through
//! (`org.fedoraproject.FirewallD1.zone`).

use cni::Error;
use ipnetwork::IpNetwork;

use crate::code;
use crate::dbus::{Arg, Bus, DbusError, Message, Method, bus_method};

const NAME: &str = "org.fedoraproject.FirewallD1";
const PATH: &str = "/org/fedoraproject/FirewallD1";
const INTERFACE: &str = "org.fedoraproject.FirewallD1.zone";

/// firewalld on the system's bus.
pub struct Firewalld {
    bus: Bus,
}

impl Firewalld {
    /// Connects to the bus, whether firewalld is there or not.
    pub fn connect() -> Result<Self, Error> {
        let bus = Bus::system().map_err(|e| failed("cannot reach firewalld", &e))?;
        Ok(Self { bus })
    }

    /// Connects to firewalld if it is running.
    pub fn if_running() -> Option<Self> {
        let mut bus = Bus::system().ok()?;
        bus.call(&bus_method("GetNameOwner"), &[Arg::Text(NAME)]).ok()?;
        Some(Self { bus })
    }

    /// Lets an address through. One that is a source of a zone already stays where it is.
    pub fn add(&mut self, zone: &str, host: IpNetwork) -> Result<(), Error> {
        match self.call("addSource", zone, host) {
            Err(error) if says(&error, "ZONE_ALREADY_SET") => Ok(()),
            done => done.map(drop).map_err(|e| {
                failed(&format!("failed to add the address {host} to {zone} zone"), &e)
            }),
        }
    }

    /// Does not let an address through any more.
    pub fn remove(&mut self, zone: &str, host: IpNetwork) -> Result<(), Error> {
        match self.call("removeSource", zone, host) {
            // Not a source of this zone, or of none; or there is no firewalld that could let it through.
            Err(error) if is_gone(&error) => Ok(()),
            done => done.map(drop).map_err(|e| {
                failed(&format!("failed to remove the address {host} from {zone} zone"), &e)
            }),
        }
    }

    /// Whether an address is let through.
    pub fn has(&mut self, zone: &str, host: IpNetwork) -> Result<bool, Error> {
        let answer = self.call("querySource", zone, host);
        let answer = answer.map_err(|e| {
            failed(&format!("failed to find the address {host} in {zone} zone"), &e)
        })?;
        Ok(answer.truth() == Some(true))
    }

    fn call(&mut self, member: &str, zone: &str, host: IpNetwork) -> Result<Message, DbusError> {
        let method = Method { destination: NAME, path: PATH, interface: INTERFACE, member };
        self.bus.call(&method, &[Arg::Text(zone), Arg::Text(&host.to_string())])
    }
}

/// firewalld's own codes begin the text of an error (`firewall/errors.py`: `ZONE_CONFLICT: …`).
fn says(error: &DbusError, code: &str) -> bool {
    matches!(error, DbusError::Method { text, .. } if text.contains(code))
}

fn is_gone(error: &DbusError) -> bool {
    const CODES: [&str; 4] = ["UNKNOWN_SOURCE", "NOT_ENABLED", "ZONE_CONFLICT", "INVALID_ZONE"];
    let unknown = "org.freedesktop.DBus.Error.ServiceUnknown";
    CODES.iter().any(|code| says(error, code))
        || matches!(error, DbusError::Method { name, .. } if name == unknown)
}

fn failed(msg: &str, error: &DbusError) -> Error {
    let cause = Error::from_source(code::RULES, error);
    let details = if cause.details.is_empty() {
        cause.msg
    } else {
        format!("{}: {}", cause.msg, cause.details)
    };
    let hint = "is firewalld running? \"backend\": \"iptables\" does without it";
    Error::new(code::RULES, msg).with_details(format!("{details}; {hint}"))
}
