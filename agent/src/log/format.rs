//! Records of the CRI log format: `2016-10-06T00:17:09.669794202Z stdout F message`, with `P` for a piece of a line that
//! goes on in the next record.

use jiff::Timestamp;

use super::CHUNK;

/// Which of a container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Turns the bytes of one stream into records.
#[derive(Debug)]
pub struct Formatter {
    stream: Stream,
    line: Vec<u8>,
}

impl Formatter {
    /// A formatter for a stream that has not said anything yet.
    pub fn new(stream: Stream) -> Self {
        Self { stream, line: Vec::new() }
    }

    /// The records that are complete with these bytes.
    pub fn push(&mut self, bytes: &[u8], time: Timestamp) -> Vec<u8> {
        let prefix = self.prefix(time);
        let mut records = Vec::with_capacity(bytes.len() + 64);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let mut rest = text;
            while self.line.len() + rest.len() > CHUNK {
                let (head, tail) = rest.split_at(CHUNK - self.line.len());
                self.line.extend_from_slice(head);
                rest = tail;
                self.record(&mut records, &prefix, b'P');
            }
            self.line.extend_from_slice(rest);
            if ends {
                self.record(&mut records, &prefix, b'F');
            }
        }
        records
    }

    /// The last line, if it does not end.
    pub fn finish(&mut self, time: Timestamp) -> Vec<u8> {
        let mut records = Vec::new();
        if !self.line.is_empty() {
            self.record(&mut records, &self.prefix(time), b'F');
        }
        records
    }

    /// What all records of one read begin with: the time is printed once, not once a line.
    fn prefix(&self, time: Timestamp) -> String {
        let stream = match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        format!("{time:.9} {stream} ")
    }

    fn record(&mut self, records: &mut Vec<u8>, prefix: &str, tag: u8) {
        records.extend_from_slice(prefix.as_bytes());
        records.extend_from_slice(&[tag, b' ']);
        records.append(&mut self.line);
        records.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> Timestamp {
        "2016-10-06T00:17:09.669794202Z".parse().unwrap()
    }

    #[test]
    fn lines_in_pieces() {
        let mut formatter = Formatter::new(Stream::Stdout);
        assert_eq!(formatter.push(b"ab", time()), b"");
        let expected = b"2016-10-06T00:17:09.669794202Z stdout F abc\n2016-10-06T00:17:09.669794202Z stdout F \n";
        assert_eq!(formatter.push(b"c\n\nd", time()), expected);
        assert_eq!(formatter.finish(time()), b"2016-10-06T00:17:09.669794202Z stdout F d\n");
        assert_eq!(formatter.finish(time()), b"");
    }

    #[test]
    fn a_long_line_is_several_records() {
        let mut formatter = Formatter::new(Stream::Stderr);
        let mut text = formatter.push(&vec![b'x'; 2 * CHUNK + 10], time());
        text.extend(formatter.push(b"\n", time()));
        let text = String::from_utf8(text).unwrap();
        let tags: Vec<_> =
            text.lines().map(|line| (line.as_bytes()[38], line.len() - 40)).collect();
        assert_eq!(tags, [(b'P', CHUNK), (b'P', CHUNK), (b'F', 10)]);
    }
}
