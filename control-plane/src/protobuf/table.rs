//! Which messages there are, what their fields are called in JSON, and which of them Go has as pointers.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;

use super::special::Special;

static PACKED: &[u8] = include_bytes!("../../data/protobuf.json.gz");
static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(&unpacked()));

fn unpacked() -> String {
    let mut text = String::new();
    let packed = GzDecoder::new(PACKED).read_to_string(&mut text);
    packed.expect("the data is part of the program, and a test reads it");
    text
}

/// All messages.
struct Table {
    messages: Vec<Message>,
    names: BTreeMap<String, usize>,
}

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    /// Its fields in the order of their numbers.
    pub fields: Vec<Field>,
    /// In JSON it is the list that its only field is: Go's type is a slice.
    pub is_list: bool,
}

/// A field of a message.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of the struct's field in Go, and they are independent"
)]
pub(super) struct Field {
    /// Its number on the wire.
    pub number: u32,
    /// Its name in JSON; empty if its fields stand in the parent.
    pub name: Box<str>,
    /// What it, or each of many, holds.
    pub kind: Kind,
    /// There are many.
    pub is_list: bool,
    /// It is a map from texts.
    pub is_map: bool,
    /// Written if and only if it is there.
    pub is_pointer: bool,
    /// Not written if it is empty, false or zero.
    pub omit_empty: bool,
}

impl Field {
    /// Its fields stand in the parent.
    pub(super) fn is_inline(&self) -> bool {
        self.name.is_empty()
    }
}

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bool,
    Bytes,
    Int32,
    Int64,
    Double,
    /// A message with a form of its own in JSON.
    Special(Special),
    /// Where it stands in the table.
    Message(usize),
}

/// The message of a definition's name, such as `io.k8s.api.core.v1.Pod`.
pub(super) fn message(name: &str) -> Option<&'static Message> {
    TABLE.names.get(name).map(|index| at(*index))
}

/// The message in this place of the table.
pub(super) fn at(index: usize) -> &'static Message {
    &TABLE.messages[index]
}

type Row = (u32, Box<str>, String, String);

impl Table {
    fn read(text: &str) -> Self {
        let written: BTreeMap<String, Vec<Row>> = serde_json::from_str(text)
            .expect("the data is part of the program, and a test reads it");
        let names: BTreeMap<String, usize> = written.keys().cloned().zip(0..).collect();
        let messages = written.into_values().map(|rows| Message {
            is_list: rows.iter().any(|(.., flags)| flags.contains('l')),
            fields: rows.into_iter().map(|row| field(row, &names)).collect(),
        });
        Self { messages: messages.collect(), names }
    }
}

fn field((number, name, kind, flags): Row, names: &BTreeMap<String, usize>) -> Field {
    let kind = match kind.as_str() {
        "s" => Kind::String,
        "b" => Kind::Bool,
        "y" => Kind::Bytes,
        "i" => Kind::Int32,
        "I" => Kind::Int64,
        "d" => Kind::Double,
        message => {
            Special::named(message).map_or_else(|| Kind::Message(names[message]), Kind::Special)
        }
    };
    let has = |flag| flags.contains(flag);
    Field {
        number,
        name,
        kind,
        is_list: has('r') || has('l'),
        is_map: has('m'),
        is_pointer: has('p'),
        omit_empty: has('o'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Shape;
    use crate::schema::definitions::Definitions;

    #[test]
    fn every_kind_of_the_schema_has_a_message_but_custom_definitions() {
        for (name, shape) in Definitions::kubernetes().schemas().iter() {
            if matches!(shape, Shape::Object(_)) && !name.contains("apiextensions") {
                assert!(message(name).is_some(), "{name} has no message");
            }
        }
    }

    #[test]
    fn structs_end() {
        // what is no pointer and no list has a zero with all its parts: a circle would have no end
        fn depth(message: &Message, level: usize) {
            assert!(level < 20);
            for field in message
                .fields
                .iter()
                .filter(|field| !field.is_pointer && !field.is_list && !field.is_map)
            {
                if let Kind::Message(index) = field.kind {
                    depth(at(index), level + 1);
                }
            }
        }
        TABLE.messages.iter().for_each(|message| depth(message, 0));
        let pod = message("io.k8s.api.core.v1.Pod").expect("a message");
        assert_eq!(
            pod.fields.iter().map(|field| &*field.name).collect::<Vec<_>>(),
            ["metadata", "spec", "status"]
        );
    }
}
