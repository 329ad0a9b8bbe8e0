//! Protobuf's encoding: numbered fields in four forms. <https://protobuf.dev/programming-guides/encoding/>

use super::ProtobufError;

/// What a field holds before its type is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of a message in the order in which they stand, with their numbers. Ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), ProtobufError> {
        let key = varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or(ProtobufError::Wire("the number of a field is out of range"))?;
        let wire = match key & 7 {
            0 => Wire::Varint(varint(&mut self.rest)?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).unwrap_or(usize::MAX);
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => {
                return Err(ProtobufError::Wire(
                    "a field has a form that does not exist or is a group",
                ));
            }
        };
        Ok((number, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(ProtobufError::Wire("it ends within a value"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many as were asked for"))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// A number of up to ten bytes with seven bits each, taken off the front.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) =
            bytes.split_first().ok_or(ProtobufError::Wire("it ends within a number"))?;
        *bytes = rest;
        // of the tenth byte one bit is left
        if shift == 63 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Wire("a number has more than 64 bits"))
}

/// Bytes as text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes).map_err(|_| ProtobufError::NotText)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_forms_are_read() {
        let bytes = b"\x08\x96\x01\x12\x02hi\x1d\x01\0\0\0\x21\0\0\0\0\0\0\xf0\x3f";
        let fields: Result<Vec<_>, _> = Fields::of(bytes).collect();
        assert_eq!(
            fields.expect("fields"),
            [
                (1, Wire::Varint(150)),
                (2, Wire::Bytes(b"hi")),
                (3, Wire::Fixed32(1)),
                (4, Wire::Fixed64(1.0_f64.to_bits())),
            ]
        );
        for broken in [
            &b"\x08"[..],
            b"\x0b",
            b"\x00\x01",
            b"\x12\x05hi",
            b"\x1d\0\0",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        ] {
            let fields: Vec<_> = Fields::of(broken).collect();
            assert!(fields.len() == 1 && fields[0].is_err(), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(value: u64) {
            let mut written = Vec::new();
            prost::encoding::encode_varint(value, &mut written);
            let mut rest = &written[..];
            prop_assert_eq!(varint(&mut rest).expect("a number"), value);
            prop_assert!(rest.is_empty());
        }
    }
}
