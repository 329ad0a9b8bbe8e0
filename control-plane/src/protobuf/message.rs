//! A message as the JSON that Go would write of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::special::{self, Special};
use super::table::{self, Field, Kind, Message};
use super::wire::{Fields, Wire, text, varint};
use super::{Envelope, MAGIC, ProtobufError};
use crate::schema::Shape;
use crate::schema::decode::Target;
use crate::schema::definitions::Definitions;

/// What may still be read.
pub(super) struct Reading {
    values: usize,
    levels: usize,
}

impl Reading {
    pub(super) fn new(values: usize, levels: usize) -> Self {
        Self { values, levels }
    }

    pub(super) fn envelope(&mut self, body: &[u8]) -> Result<Value, ProtobufError> {
        let envelope = Envelope::read(body)?;
        if envelope.content_type == "application/json" {
            return self.json(envelope.raw);
        }
        let mut value = self.message(envelope.message()?, envelope.raw)?;
        if let Value::Object(object) = &mut value {
            object.insert("apiVersion".to_owned(), envelope.api_version.into());
            object.insert("kind".to_owned(), envelope.kind.into());
        }
        Ok(value)
    }

    fn message(&mut self, message: &Message, bytes: &[u8]) -> Result<Value, ProtobufError> {
        self.levels = self.levels.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
        let mut written: Vec<Vec<Wire<'_>>> = vec![Vec::new(); message.fields.len()];
        for field in Fields::of(bytes) {
            let (number, wire) = field?;
            // fields that are unknown are of a later version: Go passes over them too
            if let Ok(at) = message.fields.binary_search_by_key(&number, |field| field.number) {
                written[at].push(wire);
            }
        }
        let mut object = Map::new();
        for (field, written) in message.fields.iter().zip(&written) {
            let Some(value) = self.field(field, written)? else { continue };
            match value {
                value if message.is_list => {
                    self.levels += 1;
                    return Ok(value);
                }
                Value::Object(parts) if field.is_inline() => object.extend(parts),
                value => {
                    object.insert(field.name.to_string(), value);
                }
            }
        }
        self.levels += 1;
        Ok(Value::Object(object))
    }

    /// The value of a field; `None` if JSON does not have it.
    fn field(
        &mut self,
        field: &Field,
        written: &[Wire<'_>],
    ) -> Result<Option<Value>, ProtobufError> {
        self.count()?;
        if field.is_list || field.is_map {
            return self.many(field, written);
        }
        let Some(last) = written.last() else {
            let zero = if field.is_pointer { None } else { self.zero(field)? };
            return Ok(zero);
        };
        let pieces: Vec<&[u8]> = written.iter().filter_map(Wire::as_bytes).collect();
        let value = match field.kind {
            // the pieces of a message belong together
            Kind::Message(_) if pieces.len() > 1 => {
                self.value(field, Wire::Bytes(&pieces.concat()))?
            }
            _ => self.value(field, *last)?,
        };
        let absent = field.omit_empty && !field.is_pointer && is_empty(&value, field.kind);
        Ok((!absent).then_some(value))
    }

    /// What Go has where nothing was written.
    fn zero(&mut self, field: &Field) -> Result<Option<Value>, ProtobufError> {
        let value = match field.kind {
            // nothing is smaller than a struct: omitempty does not leave it out
            Kind::Message(_) | Kind::Special(_) => {
                return self.value(field, Wire::Bytes(&[])).map(Some);
            }
            Kind::String => "".into(),
            Kind::Bool => false.into(),
            Kind::Bytes => Value::Null,
            Kind::Int32 | Kind::Int64 | Kind::Double => 0.into(),
        };
        Ok((!field.omit_empty).then_some(value))
    }

    fn many(
        &mut self,
        field: &Field,
        written: &[Wire<'_>],
    ) -> Result<Option<Value>, ProtobufError> {
        let mut items = Vec::new();
        let mut map = Map::new();
        for wire in written {
            self.count()?;
            match (field.is_map, wire) {
                (true, Wire::Bytes(entry)) => {
                    let (key, value) = self.entry(field, entry)?;
                    map.insert(key, value);
                }
                (false, Wire::Bytes(packed)) if is_number(field.kind) => {
                    self.packed(field, packed, &mut items)?;
                }
                (false, wire) => items.push(self.value(field, *wire)?),
                (true, _) => return Err(wrong(field)),
            }
        }
        Ok(match (field.is_map, written.is_empty()) {
            (_, true) if field.omit_empty => None,
            // a slice type of its own is made when it is read
            (_, true) if field.is_inline() => Some(items.into()),
            (_, true) => Some(Value::Null),
            (true, false) => Some(map.into()),
            (false, false) => Some(items.into()),
        })
    }

    fn entry(&mut self, field: &Field, entry: &[u8]) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = ("", None);
        for part in Fields::of(entry) {
            match part? {
                (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                (2, wire) => value = Some(wire),
                _ => {}
            }
        }
        let value = match (value, field.kind) {
            (Some(wire), _) => self.value(field, wire)?,
            (None, _) => self.value(field, Wire::Bytes(&[]))?,
        };
        Ok((key.to_owned(), value))
    }

    /// Numbers of a list in one piece.
    fn packed(
        &mut self,
        field: &Field,
        mut bytes: &[u8],
        items: &mut Vec<Value>,
    ) -> Result<(), ProtobufError> {
        if field.kind == Kind::Double {
            return Err(wrong(field));
        }
        while !bytes.is_empty() {
            self.count()?;
            let number = varint(&mut bytes)?;
            items.push(self.value(field, Wire::Varint(number))?);
        }
        Ok(())
    }

    fn value(&mut self, field: &Field, wire: Wire<'_>) -> Result<Value, ProtobufError> {
        match (field.kind, wire) {
            (Kind::String, Wire::Bytes(bytes)) => Ok(text(bytes)?.into()),
            (Kind::Bytes, Wire::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
            (Kind::Bool, Wire::Varint(value)) => Ok((value != 0).into()),
            (Kind::Int32, Wire::Varint(value)) => Ok(special::low_bits(value).into()),
            (Kind::Int64, Wire::Varint(value)) => Ok(value.cast_signed().into()),
            (Kind::Double, Wire::Fixed64(bits)) => Number::from_f64(f64::from_bits(bits))
                .map(Value::Number)
                .ok_or_else(|| wrong(field)),
            (Kind::Message(index), Wire::Bytes(bytes)) => self.message(table::at(index), bytes),
            (Kind::Special(special), Wire::Bytes(bytes)) => self.special(special, bytes),
            _ => Err(wrong(field)),
        }
    }

    fn special(&mut self, special: Special, bytes: &[u8]) -> Result<Value, ProtobufError> {
        match special {
            Special::Time => special::time(bytes, 0),
            Special::MicroTime => special::time(bytes, 6),
            Special::Duration => special::duration(bytes),
            Special::Quantity => special::quantity(bytes),
            Special::IntOrString => special::int_or_string(bytes),
            Special::Raw => {
                let raw = special::raw(bytes)?;
                if !raw.starts_with(MAGIC) {
                    return self.json(raw);
                }
                self.levels = self.levels.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
                let value = self.envelope(raw)?;
                self.levels += 1;
                Ok(value)
            }
        }
    }

    /// Bytes that are JSON; none are `null`.
    fn json(&mut self, bytes: &[u8]) -> Result<Value, ProtobufError> {
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        let anything =
            Target { definitions: Definitions::kubernetes(), shape: &Shape::Any, custom: true };
        let decoded = anything.json_within(bytes, &mut self.values);
        Ok(decoded.map_err(|error| ProtobufError::Json(error.to_string()))?.value)
    }

    fn count(&mut self) -> Result<(), ProtobufError> {
        self.values = self.values.checked_sub(1).ok_or(ProtobufError::TooMany)?;
        Ok(())
    }
}

impl<'a> Wire<'a> {
    fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Wire::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

fn wrong(field: &Field) -> ProtobufError {
    ProtobufError::Type(field.name.clone())
}

fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Double)
}

/// What omitempty leaves out.
fn is_empty(value: &Value, kind: Kind) -> bool {
    match (kind, value) {
        (Kind::Message(_) | Kind::Special(_), _) => false,
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Bool(value)) => !value,
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        _ => false,
    }
}
