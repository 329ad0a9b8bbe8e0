//! What probes look like on the wire, in the payload of a UDP datagram:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–3 | `HdlP` |
//! | 4 | version, 1 |
//! | 5 | 1 a question, 2 an answer |
//! | 6–7 | length of the question's payload, in network byte order |
//! | 8–15 | the asker's number, which only it can know |
//! | 16… | of a question: zeros, up to its length |
//!
//! An answer is as short as the shortest question: it tells of one direction, and nobody can make more out of less by it.

/// The length of an answer, and the least of a question.
pub const HEADER: usize = 16;
/// The most that a UDP datagram over IPv4 carries.
pub const LONGEST: usize = 65_507;

const MAGIC: &[u8; 4] = b"HdlP";
const VERSION: u8 = 1;
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Whether it is the answer.
    pub is_answer: bool,
    /// The length of the question's payload in bytes.
    pub length: u16,
    /// The asker's number.
    pub nonce: u64,
}

/// Why bytes are not a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAProbe {
    /// Shorter than any.
    #[error("it is shorter than {HEADER} bytes")]
    Short,
    /// Something else.
    #[error("it does not begin as probes do")]
    Magic,
    /// Of another version.
    #[error("it is of version {0}, and this program knows version {VERSION}")]
    Version(u8),
    /// Neither a question nor an answer.
    #[error("it is neither a question nor an answer, but {0}")]
    Kind(u8),
    /// A part of it is missing, or there is more.
    #[error("it has {found} bytes and tells of {told}")]
    Length {
        /// What it says.
        told: u16,
        /// What there is.
        found: usize,
    },
    /// What fills it up is not zeros: it carries something.
    #[error("it carries something")]
    Padding,
}

impl Datagram {
    /// A question of `length` bytes, at least [`HEADER`].
    pub fn question(nonce: u64, length: u16) -> Self {
        let least = u16::try_from(HEADER).unwrap_or_default();
        Self { is_answer: false, length: length.max(least), nonce }
    }

    /// The answer to it.
    pub fn answer(self) -> Self {
        Self { is_answer: true, ..self }
    }

    /// As it goes on the wire.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(MAGIC);
        bytes.extend([VERSION, if self.is_answer { ANSWER } else { QUESTION }]);
        bytes.extend(self.length.to_be_bytes());
        bytes.extend(self.nonce.to_be_bytes());
        if !self.is_answer {
            bytes.resize(self.length.into(), 0);
        }
        bytes
    }

    /// Reads what came by the wire.
    pub fn read(bytes: &[u8]) -> Result<Self, NotAProbe> {
        let (header, padding) = bytes.split_at_checked(HEADER).ok_or(NotAProbe::Short)?;
        let [m0, m1, m2, m3, version, kind, l0, l1, nonce @ ..] = header else {
            return Err(NotAProbe::Short);
        };
        if [*m0, *m1, *m2, *m3] != *MAGIC {
            return Err(NotAProbe::Magic);
        }
        if *version != VERSION {
            return Err(NotAProbe::Version(*version));
        }
        let is_answer = match *kind {
            QUESTION => false,
            ANSWER => true,
            other => return Err(NotAProbe::Kind(other)),
        };
        let length = u16::from_be_bytes([*l0, *l1]);
        let expected = if is_answer { HEADER } else { length.into() };
        if bytes.len() != expected || usize::from(length) < HEADER {
            return Err(NotAProbe::Length { told: length, found: bytes.len() });
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(NotAProbe::Padding);
        }
        let nonce = u64::from_be_bytes(nonce.try_into().map_err(|_| NotAProbe::Short)?);
        Ok(Self { is_answer, length, nonce })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn on_the_wire() {
        let question = Datagram::question(0x0102_0304_0506_0708, 20);
        let bytes = b"HdlP\x01\x01\x00\x14\x01\x02\x03\x04\x05\x06\x07\x08\x00\x00\x00\x00";
        assert_eq!(question.write(), bytes);
        assert_eq!(Datagram::read(bytes), Ok(question));
        let answer = b"HdlP\x01\x02\x00\x14\x01\x02\x03\x04\x05\x06\x07\x08";
        assert_eq!(question.answer().write(), answer);
        assert_eq!(Datagram::read(answer), Ok(question.answer()));
        assert_eq!(Datagram::question(1, 3).write().len(), HEADER);
    }

    #[test]
    fn what_is_not_one_is_refused_by_name() {
        let good = Datagram::question(9, 20).write();
        let with = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            Datagram::read(&bytes).unwrap_err()
        };
        assert_eq!(with(0, b'h'), NotAProbe::Magic);
        assert_eq!(with(4, 2), NotAProbe::Version(2));
        assert_eq!(with(5, 3), NotAProbe::Kind(3));
        assert_eq!(with(7, 21), NotAProbe::Length { told: 21, found: 20 });
        assert_eq!(with(5, 2), NotAProbe::Length { told: 20, found: 20 });
        assert_eq!(with(19, 1), NotAProbe::Padding);
        assert_eq!(Datagram::read(&good[..15]), Err(NotAProbe::Short));
        assert_eq!(Datagram::read(&[]), Err(NotAProbe::Short));
        let short = NotAProbe::Length { told: 20, found: 16 };
        assert_eq!(Datagram::read(&good[..16]), Err(short));
    }

    proptest! {
        /// Whatever comes, an answer is never longer than what asked for it.
        #[test]
        fn no_answer_is_longer_than_its_question(head in "(HdlP\u{1})?", rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [head.as_bytes(), &rest].concat();
            if let Ok(read) = Datagram::read(&bytes) {
                prop_assert!(read.answer().write().len() <= bytes.len());
                prop_assert_eq!(read.write(), bytes);
            }
        }
    }
}
