//! The names in a certificate, byte by byte.
//!
//! A user's groups are one organisation attribute each, and rcgen's names hold an attribute once. Likewise the issuer's name must be the
//! very bytes of the authority's subject (RFC 5280, 4.1.2.4), whatever another program put there. So both names are written
//! here, in DER (X.690), into what rcgen made, and that is signed again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, SigningKey as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Subject;

const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// 2.5.4.10
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];

/// A certificate with its subject and issuer as they should be, signed with the authority's key. The error says what is wrong.
pub(super) fn renamed(
    certificate: &[u8],
    authority: &[u8],
    subject: &Subject,
    key: &KeyPair,
) -> Result<Vec<u8>, String> {
    let parse = |der| X509Certificate::from_der(der).map_err(|error| error.to_string());
    let ((_, made), (_, authority)) = (parse(certificate)?, parse(authority)?);
    let tbs = made.tbs_certificate.as_ref();
    let issuer = place(tbs, made.issuer().as_raw())?;
    let old = place(tbs, made.subject().as_raw())?;
    let body = [
        &tbs[header(tbs)?..issuer.start],
        authority.subject().as_raw(),
        &tbs[issuer.end..old.start],
        &name(subject),
        &tbs[old.end..],
    ];
    let tbs = tlv(SEQUENCE, &body.concat());
    let signature = key.sign(&tbs).map_err(|error| error.to_string())?;
    let algorithm = between(certificate, &made)?;
    let signature = tlv(BIT_STRING, &[&[0], &signature[..]].concat());
    Ok(tlv(SEQUENCE, &[&tbs[..], algorithm, &signature].concat()))
}

/// A certificate as text (RFC 7468).
pub(super) fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// The bytes of the signature's algorithm, between what is signed and the signature.
fn between<'a>(whole: &'a [u8], made: &X509Certificate<'_>) -> Result<&'a [u8], String> {
    let tbs = place(whole, made.tbs_certificate.as_ref())?;
    let rest = &whole[tbs.end..];
    let length = usize::from(*rest.get(1).ok_or("it ends before its signature")?);
    rest.get(..2 + length).ok_or_else(|| "it ends before its signature".to_owned())
}

/// Where a part that was read from some bytes lies in them.
fn place(whole: &[u8], part: &[u8]) -> Result<std::ops::Range<usize>, String> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize);
    let range = start.map(|start| start..start + part.len());
    range.filter(|range| range.end <= whole.len()).ok_or_else(|| "a name is elsewhere".to_owned())
}

/// How long the tag and the length of a DER value are.
fn header(value: &[u8]) -> Result<usize, String> {
    let length = *value.get(1).ok_or("it is empty")?;
    Ok(if length < 0x80 { 2 } else { 2 + usize::from(length & 0x7f) })
}

fn name(subject: &Subject) -> Vec<u8> {
    let groups = subject.groups.iter().map(|group| attribute(&ORGANIZATION, group));
    let parts: Vec<u8> = groups.chain([attribute(&COMMON_NAME, &subject.name)]).flatten().collect();
    tlv(SEQUENCE, &parts)
}

fn attribute(kind: &[u8], text: &str) -> Vec<u8> {
    let pair = [tlv(OBJECT_IDENTIFIER, kind), tlv(UTF8_STRING, text.as_bytes())].concat();
    tlv(SET, &tlv(SEQUENCE, &pair))
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut value = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => value.push(length),
        _ => {
            let length = content.len().to_be_bytes();
            let skipped = length.iter().take_while(|byte| **byte == 0).count();
            let bytes = &length[skipped..];
            value.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
            value.extend(bytes);
        }
    }
    value.extend(content);
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pki::{Authority, Certificate, Purpose};

    #[test]
    fn lengths_are_written_in_the_fewest_bytes() {
        assert_eq!(tlv(4, &[7; 3])[..2], [4, 3]);
        assert_eq!(tlv(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(tlv(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tlv(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn any_user_and_groups_are_read_back_as_they_were_written() {
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let authority = Authority::make(now).unwrap();
        let text = "[a-zäß:,=+ \"]{1,60}";
        let groups = proptest::collection::vec(text, 0..9);
        proptest!(ProptestConfig::with_cases(64), |(name in text, groups in groups)| {
            let subject = Subject::new(&name).groups(groups.iter().map(String::as_str));
            let issued = authority.sign(&subject, Purpose::Client, now).unwrap();
            let read = Certificate::parse_pem(&issued.certificate).unwrap().remove(0);
            prop_assert_eq!(&read.common_name, &name);
            prop_assert_eq!(&read.organizations, &groups);
            prop_assert!(read.signed_by(authority.certificate()));
        });
    }
}
