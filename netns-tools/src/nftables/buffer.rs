//! Writing and reading netlink attributes.

use super::uapi::NAME_MAX;
use crate::netlink::raw::{NESTED, begin, end};
use crate::netlink::reply::attributes;

/// Bytes of messages in the making. What cannot be written is remembered instead of written wrongly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    pub(super) bytes: Vec<u8>,
    /// The first thing that cannot be said to the kernel, and why.
    pub(super) invalid: Option<(String, &'static str)>,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Remembers what is wrong; the first counts.
    pub(super) fn refuse(&mut self, what: &str, why: &'static str) {
        self.invalid.get_or_insert_with(|| (what.to_owned(), why));
    }

    fn open(&mut self, kind: u16) -> usize {
        begin(&mut self.bytes, kind)
    }

    fn close(&mut self, start: usize) {
        if !end(&mut self.bytes, start) {
            self.refuse("an attribute", "it is longer than 64 KiB");
        }
    }

    /// Any value.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    /// A word that we know to be good, with the zero byte that ends it.
    pub(super) fn word(&mut self, kind: u16, word: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(word.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// The name of an object.
    pub(super) fn name(&mut self, kind: u16, name: &str) {
        if name.is_empty() {
            self.refuse(name, "a name must not be empty");
        } else if name.len() > NAME_MAX {
            self.refuse(name, "a name has at most 255 bytes");
        } else if name.contains('\0') {
            self.refuse(name, "a name holds no zero byte");
        }
        self.word(kind, name);
    }

    pub(super) fn byte(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    /// nf_tables wants its numbers in network byte order.
    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Attributes within an attribute.
    pub(super) fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NESTED);
        content(self);
        self.close(start);
    }

    /// A comment in the form in which nft keeps and prints it.
    pub(super) fn comment(&mut self, attribute: u16, kind: u8, comment: Option<&str>) {
        self.user_data(attribute, &[], kind, comment);
    }

    /// What nft keeps of an object for itself: entries of at most 255 bytes by their kinds, and a comment.
    pub(super) fn user_data(
        &mut self,
        attribute: u16,
        entries: &[(u8, Vec<u8>)],
        kind: u8,
        comment: Option<&str>,
    ) {
        if entries.is_empty() && comment.is_none() {
            return;
        }
        let start = self.open(attribute);
        for (kind, content) in entries {
            let Ok(length) = u8::try_from(content.len()) else { continue };
            self.bytes.extend_from_slice(&[*kind, length]);
            self.bytes.extend_from_slice(content);
        }
        match comment {
            Some(text) if text.len() > super::COMMENT_MAX => {
                self.refuse(text, "a comment has at most 128 bytes");
            }
            Some(text) if text.contains('\0') => self.refuse(text, "a comment holds no zero byte"),
            Some(text) => {
                // COMMENT_MAX and the zero byte fit in a byte.
                let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
                self.bytes.extend_from_slice(&[kind, length]);
                self.bytes.extend_from_slice(text.as_bytes());
                self.bytes.push(0);
            }
            None => {}
        }
        self.close(start);
    }
}

/// The value of an attribute.
pub(super) fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

pub(super) fn u8_of(bytes: &[u8], kind: u16) -> Option<u8> {
    find(bytes, kind)?.first().copied()
}

pub(super) fn u32_of(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(bytes, kind)?.get(..4)?.try_into().ok()?))
}

pub(super) fn u64_of(bytes: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(find(bytes, kind)?.get(..8)?.try_into().ok()?))
}

/// Up to the zero byte; a name that is not UTF-8 is shown as well as may be.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

pub(super) fn text_of(bytes: &[u8], kind: u16) -> Option<String> {
    find(bytes, kind).map(text)
}

/// The comment in an object's user data.
pub(super) fn comment_of(bytes: &[u8], attribute: u16, kind: u8) -> Option<String> {
    let mut rest = find(bytes, attribute)?;
    while let [found, length, more @ ..] = rest {
        let value = more.get(..usize::from(*length))?;
        if *found == kind {
            return Some(text(value));
        }
        rest = &more[value.len()..];
    }
    None
}
