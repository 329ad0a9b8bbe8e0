//! Messages and their marshalling (D-Bus Specification, "Message Protocol"): as much of it as texts, numbers and truth values
//! need. We write little-endian and read both.

use super::Method;

/// The part of a message that says how long it is.
pub const FIXED: usize = 16;
/// No message that we want to read is longer. (The specification allows 128 MiB.)
const MAX_LENGTH: usize = 1 << 20;
/// Numbers of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the protocol's own names")]
pub enum Kind {
    Call,
    Return,
    Error,
    Signal,
}

/// An argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the protocol's types `s`, `u` and `b`")]
pub enum Arg<'a> {
    Text(&'a str),
    Number(u32),
    Truth(bool),
}

impl Arg<'_> {
    fn signature(self) -> char {
        match self {
            Self::Text(_) => 's',
            Self::Number(_) => 'u',
            Self::Truth(_) => 'b',
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number, as its sender counts.
    pub serial: u32,
    /// The object that is called.
    pub path: Option<String>,
    /// The interface that is called.
    pub interface: Option<String>,
    /// The method that is called.
    pub member: Option<String>,
    /// Who is called.
    pub destination: Option<String>,
    /// Who sent it; the bus says so.
    pub sender: Option<String>,
    /// The call that this answers.
    pub reply_serial: Option<u32>,
    /// The name of an error.
    pub error_name: Option<String>,
    signature: String,
    body: Vec<u8>,
    big_endian: bool,
}

impl Message {
    fn new(kind: Kind, args: &[Arg<'_>]) -> Self {
        let mut body = Writer::default();
        for arg in args {
            match *arg {
                Arg::Text(text) => body.text(text),
                Arg::Number(number) => body.number(number),
                Arg::Truth(so) => body.number(u32::from(so)),
            }
        }
        Self {
            kind,
            serial: 0,
            path: None,
            interface: None,
            member: None,
            destination: None,
            sender: None,
            reply_serial: None,
            error_name: None,
            signature: args.iter().map(|arg| arg.signature()).collect(),
            body: body.0,
            big_endian: false,
        }
    }

    /// The call of a method.
    pub fn call(method: &Method<'_>, args: &[Arg<'_>]) -> Self {
        Self {
            path: Some(method.path.to_owned()),
            interface: Some(method.interface.to_owned()),
            member: Some(method.member.to_owned()),
            destination: Some(method.destination.to_owned()),
            ..Self::new(Kind::Call, args)
        }
    }

    /// The answer to a call: values, or with an error's name an error.
    #[must_use]
    pub fn answer(&self, error_name: Option<&str>, args: &[Arg<'_>]) -> Self {
        let kind = if error_name.is_some() { Kind::Error } else { Kind::Return };
        Self {
            destination: self.sender.clone(),
            reply_serial: Some(self.serial),
            error_name: error_name.map(str::to_owned),
            ..Self::new(kind, args)
        }
    }

    /// The first value, if it is a text.
    pub fn text(&self) -> Option<String> {
        self.texts().into_iter().next()
    }

    /// The texts that it begins with.
    pub fn texts(&self) -> Vec<String> {
        let mut reader = Reader { bytes: &self.body, at: 0, big_endian: self.big_endian };
        let count = self.signature.chars().take_while(|kind| *kind == 's').count();
        (0..count).map_while(|_| reader.text().ok()).collect()
    }

    /// The first value, if it is a truth value.
    pub fn truth(&self) -> Option<bool> {
        let mut reader = Reader { bytes: &self.body, at: 0, big_endian: self.big_endian };
        self.signature.starts_with('b').then(|| reader.number().ok()).flatten().map(|n| n != 0)
    }

    /// The bytes on the wire.
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
        };
        let mut writer = Writer(vec![b'l', kind, 0, 1]);
        writer.number(to_u32(self.body.len()));
        writer.number(serial);
        let fields = self.fields();
        writer.number(to_u32(fields.len()));
        writer.0.extend(fields);
        writer.align(8);
        writer.0.extend(&self.body);
        writer.0
    }

    /// The header fields. They begin at a multiple of eight, so that alignment within them is that of the message.
    fn fields(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let texts = [
            (PATH, 'o', &self.path),
            (INTERFACE, 's', &self.interface),
            (MEMBER, 's', &self.member),
            (ERROR_NAME, 's', &self.error_name),
            (DESTINATION, 's', &self.destination),
        ];
        for (code, signature, text) in texts {
            if let Some(text) = text {
                writer.field(code, signature);
                writer.text(text);
            }
        }
        if let Some(serial) = self.reply_serial {
            writer.field(REPLY_SERIAL, 'u');
            writer.number(serial);
        }
        if !self.signature.is_empty() {
            writer.field(SIGNATURE, 'g');
            writer.signature(&self.signature);
        }
        writer.0
    }

    /// Reads a whole message.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut reader = Reader::of(bytes)?;
        let kind = match bytes[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            _ => Kind::Signal,
        };
        let mut message = Self { big_endian: reader.big_endian, ..Self::new(kind, &[]) };
        reader.at = 4;
        let body = reader.number()? as usize;
        message.serial = reader.number()?;
        let end = FIXED + reader.number()? as usize;
        while reader.at < end {
            reader.align(8);
            if reader.at >= end {
                break;
            }
            message.read_field(&mut reader)?;
        }
        let start = bytes.len().checked_sub(body).ok_or("its body is cut off")?;
        message.body = bytes[start..].to_vec();
        Ok(message)
    }

    fn read_field(&mut self, reader: &mut Reader<'_>) -> Result<(), &'static str> {
        let code = reader.byte()?;
        let signature = reader.signature()?;
        match signature.as_str() {
            "s" | "o" => {
                let text = reader.text()?;
                match code {
                    PATH => self.path = Some(text),
                    INTERFACE => self.interface = Some(text),
                    MEMBER => self.member = Some(text),
                    ERROR_NAME => self.error_name = Some(text),
                    DESTINATION => self.destination = Some(text),
                    SENDER => self.sender = Some(text),
                    _ => {}
                }
            }
            "u" => {
                let number = reader.number()?;
                if code == REPLY_SERIAL {
                    self.reply_serial = Some(number);
                }
            }
            "g" => {
                let text = reader.signature()?;
                if code == SIGNATURE {
                    self.signature = text;
                }
            }
            _ => return Err("it has a header field of an unknown type"),
        }
        Ok(())
    }
}

/// The whole length of the message that begins with these bytes.
pub fn length(fixed: &[u8]) -> Result<usize, &'static str> {
    let mut reader = Reader::of(fixed)?;
    reader.at = 4;
    let body = reader.number()? as usize;
    reader.number()?;
    let fields = reader.number()? as usize;
    if body > MAX_LENGTH || fields > MAX_LENGTH {
        return Err("it is too long");
    }
    Ok(FIXED + fields.next_multiple_of(8) + body)
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(to_u32(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    fn field(&mut self, code: u8, signature: char) {
        self.align(8);
        self.0.push(code);
        self.signature(&signature.to_string());
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let big_endian = match bytes.first() {
            Some(b'l') => false,
            Some(b'B') => true,
            _ => return Err("it says no byte order"),
        };
        if bytes.len() < FIXED {
            return Err("its header is cut off");
        }
        Ok(Self { bytes, at: 0, big_endian })
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let end = self.at.checked_add(count).ok_or("a length in it is absurd")?;
        let taken = self.bytes.get(self.at..end).ok_or("it is cut off")?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32, &'static str> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| "it is cut off")?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let length = self.number()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Result<String, &'static str> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<String, &'static str> {
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).map_err(|_| "a text in it is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method<'_> = Method {
        destination: "org.x.Y",
        path: "/org/x",
        interface: "org.x.I",
        member: "addSource",
    };

    /// Byte for byte, as the specification lays it out.
    #[test]
    fn a_call_on_the_wire() {
        let bytes = Message::call(&METHOD, &[Arg::Text("trusted"), Arg::Number(7)]).encode(2);
        let mut expected = vec![b'l', 1, 0, 1, 16, 0, 0, 0, 2, 0, 0, 0, 99, 0, 0, 0];
        expected.extend(b"\x01\x01o\0\x06\0\0\0/org/x\0\0");
        expected.extend(b"\x02\x01s\0\x07\0\0\0org.x.I\0");
        expected.extend(b"\x03\x01s\0\x09\0\0\0addSource\0\0\0\0\0\0\0");
        expected.extend(b"\x06\x01s\0\x07\0\0\0org.x.Y\0");
        expected.extend(b"\x08\x01g\0\x02su\0");
        let fields = expected.len() - FIXED;
        expected[12] = u8::try_from(fields).unwrap();
        expected.resize(expected.len().next_multiple_of(8), 0);
        expected.extend(b"\x07\0\0\0trusted\0\x07\0\0\0");
        assert_eq!(bytes, expected);
        assert_eq!(length(&bytes), Ok(bytes.len()));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let call = Message::call(&METHOD, &[Arg::Text("a"), Arg::Text("ä b")]);
        let read = Message::decode(&call.encode(9)).unwrap();
        assert_eq!(read, Message { serial: 9, ..call });
        assert_eq!(read.texts(), ["a", "ä b"]);
        let asked = Message { sender: Some(":1.7".into()), ..read };
        let yes = Message::decode(&asked.answer(None, &[Arg::Truth(true)]).encode(1)).unwrap();
        assert_eq!((yes.kind, yes.reply_serial, yes.truth()), (Kind::Return, Some(9), Some(true)));
        assert_eq!(yes.destination.as_deref(), Some(":1.7"));
        let no = asked.answer(Some("org.x.No"), &[Arg::Text("because")]);
        let no = Message::decode(&no.encode(1)).unwrap();
        assert_eq!(
            (no.error_name.as_deref(), no.text().as_deref()),
            (Some("org.x.No"), Some("because"))
        );
    }

    #[test]
    fn the_other_byte_order_is_read_too() {
        let mut bytes = vec![b'B', 2, 0, 1, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 15];
        bytes.extend(b"\x05\x01u\0\0\0\0\x09\x08\x01g\0\x01b\0\0\0\0\0\x01");
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(
            (message.serial, message.reply_serial, message.truth()),
            (3, Some(9), Some(true))
        );
    }

    #[test]
    fn damaged_messages_are_refused_and_do_no_harm() {
        let whole = Message::call(&METHOD, &[Arg::Text("trusted")]).encode(2);
        for cut in 0..whole.len() {
            let _ = Message::decode(&whole[..cut]).map(|message| message.texts());
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = length(&damaged);
            let _ = Message::decode(&damaged).map(|message| message.texts());
        }
        assert!(Message::decode(b"x").is_err());
        let endless = [b'l', 1, 0, 1, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(length(&endless), Err("it is too long"));
    }
}
