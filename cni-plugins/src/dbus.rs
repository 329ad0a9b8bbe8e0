//! A small D-Bus client: enough to call methods of a service on the system bus, and to be one (D-Bus Specification 0.43).
//!
//! A plugin calls a handful of methods and ends; the libraries that could do it bring an async runtime or a C library.

mod address;
mod message;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use data_encoding::HEXLOWER;

pub use self::message::{Arg, Kind, Message};

/// The bus that systems without the variable have.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
const VARIABLE: &str = "DBUS_SYSTEM_BUS_ADDRESS";
/// The time that libraries give a method.
const PATIENCE: Duration = Duration::from_secs(25);
/// A line of the handshake is short.
const MAX_LINE: usize = 4096;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DbusError {
    /// No bus could be reached.
    #[error("cannot connect to the bus at {address}")]
    Connect {
        /// Where it should be.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The bus does not want us.
    #[error("the bus refuses us: {answer:?}")]
    Refused {
        /// What it answered.
        answer: String,
    },
    /// The connection broke, or nothing came in time.
    #[error("cannot {step}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What came is no D-Bus message.
    #[error("a message of the bus cannot be understood: {0}")]
    Malformed(&'static str),
    /// The method failed.
    #[error("{name}: {text}")]
    Method {
        /// The error's name, such as `org.freedesktop.DBus.Error.ServiceUnknown`.
        name: String,
        /// What the service says.
        text: String,
    },
}

/// A method of an object.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// The service's name on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface that the method is of.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
}

/// The bus itself.
const BUS: &str = "org.freedesktop.DBus";

/// A method of the bus itself.
pub const fn bus_method(member: &str) -> Method<'_> {
    Method { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member }
}

/// A connection to a bus.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connects to the system's bus.
    pub fn system() -> Result<Self, DbusError> {
        match std::env::var(VARIABLE) {
            Ok(address) if !address.is_empty() => Self::connect(&address),
            _ => Self::connect(SYSTEM_BUS),
        }
    }

    /// Connects to the bus at an address such as `unix:path=/run/dbus/system_bus_socket`.
    pub fn connect(address: &str) -> Result<Self, DbusError> {
        let stream = address::connect(address)
            .map_err(|source| DbusError::Connect { address: address.to_owned(), source })?;
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).map_err(io_error("prepare the connection to the bus"))?;
        }
        let mut bus = Self { stream, serial: 0 };
        bus.authenticate()?;
        bus.call(&bus_method("Hello"), &[])?;
        Ok(bus)
    }

    /// Calls a method and waits for its answer.
    pub fn call(&mut self, method: &Method<'_>, args: &[Arg<'_>]) -> Result<Message, DbusError> {
        let serial = self.send(&Message::call(method, args))?;
        loop {
            let message = self.receive()?;
            if message.reply_serial != Some(serial) {
                continue;
            }
            return match message.kind {
                Kind::Error => Err(DbusError::Method {
                    text: message.text().unwrap_or_default(),
                    name: message.error_name.unwrap_or_default(),
                }),
                _ => Ok(message),
            };
        }
    }

    /// Sends a message and says its number.
    pub fn send(&mut self, message: &Message) -> Result<u32, DbusError> {
        self.serial += 1;
        let bytes = message.encode(self.serial);
        self.stream.write_all(&bytes).map_err(io_error("send a message to the bus"))?;
        Ok(self.serial)
    }

    /// Waits for the next message, whatever it is.
    pub fn receive(&mut self) -> Result<Message, DbusError> {
        let mut bytes = vec![0; message::FIXED];
        let failed = || io_error("receive an answer from the bus");
        self.stream.read_exact(&mut bytes).map_err(failed())?;
        let length = message::length(&bytes).map_err(DbusError::Malformed)?;
        bytes.resize(length, 0);
        self.stream.read_exact(&mut bytes[message::FIXED..]).map_err(failed())?;
        Message::decode(&bytes).map_err(DbusError::Malformed)
    }

    /// The handshake: we are who the socket says we are.
    fn authenticate(&mut self) -> Result<(), DbusError> {
        let uid = nix::unistd::geteuid().to_string();
        let hello = format!("\0AUTH EXTERNAL {}\r\n", HEXLOWER.encode(uid.as_bytes()));
        let failed = || io_error("introduce ourselves to the bus");
        self.stream.write_all(hello.as_bytes()).map_err(failed())?;
        let answer = self.line().map_err(failed())?;
        if !answer.starts_with("OK ") {
            return Err(DbusError::Refused { answer });
        }
        self.stream.write_all(b"BEGIN\r\n").map_err(failed())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < MAX_LINE {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

fn io_error(step: &'static str) -> impl Fn(io::Error) -> DbusError {
    move |source| DbusError::Io { step, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A bus that answers the handshake with `answer`, then every message with `replies`.
    fn fake(answer: &'static str, replies: fn(&Message) -> Vec<Message>) -> Result<Bus, DbusError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            // Line by line and no further: the first message may follow at once.
            let mut bus = Bus { stream, serial: 0 };
            let hello = bus.line().unwrap();
            assert!(hello.starts_with("\0AUTH EXTERNAL "), "{hello:?}");
            bus.stream.write_all(answer.as_bytes()).unwrap();
            let Ok(begin) = bus.line() else { return };
            assert_eq!(begin, "BEGIN");
            while let Ok(message) = bus.receive() {
                for reply in replies(&message) {
                    bus.send(&reply).unwrap();
                }
            }
        });
        Bus::connect(&format!("unix:path={}", path.display()))
    }

    #[test]
    fn an_answer_is_found_among_other_messages() {
        let mut bus = fake("OK 1234\r\n", |message| {
            let mut other = message.clone();
            other.serial += 7;
            let wrong = other.answer(None, &[Arg::Text("wrong")]);
            vec![message.clone(), wrong, message.answer(None, &[Arg::Text("right")])]
        })
        .unwrap();
        let answer = bus.call(&bus_method("GetId"), &[]).unwrap();
        assert_eq!(answer.text().as_deref(), Some("right"));
    }

    #[test]
    fn errors_are_told() {
        let refused = fake("REJECTED EXTERNAL\r\n", |_| Vec::new()).unwrap_err();
        assert_eq!(refused.to_string(), "the bus refuses us: \"REJECTED EXTERNAL\"");
        let failed = fake("OK 1234\r\n", |message| {
            vec![message.answer(Some("org.x.No"), &[Arg::Text("because")])]
        });
        assert_eq!(failed.unwrap_err().to_string(), "org.x.No: because");
        let nowhere = Bus::connect("unix:path=/nowhere/bus").unwrap_err();
        assert_eq!(nowhere.to_string(), "cannot connect to the bus at unix:path=/nowhere/bus");
    }
}
