use super::*;

/// As a server would answer: the same datagram with the ports exchanged, which leaves the checksum as it is.
fn answer(payload: &[u8]) -> Vec<u8> {
    let mut bytes = encode(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::BROADCAST, payload);
    bytes[20..24].copy_from_slice(&[0, 67, 0, 68]);
    bytes
}

/// The checksums come from another program than the one under test.
#[test]
fn a_datagram_byte_by_byte() {
    let bytes = encode(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::BROADCAST, b"abc");
    let expected = [
        0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0x70, 0xce, 10, 0, 0, 1, 255, 255, 255, 255, 0, 68, 0,
        67, 0, 11, 0x30, 0xee, b'a', b'b', b'c',
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn what_is_encoded_can_be_decoded() {
    for payload in [&b"abc"[..], b"abcd", b"", &[0xff; 1400]] {
        assert_eq!(decode(&answer(payload), true), Some(payload));
    }
    // Ethernet pads short frames.
    let mut padded = answer(b"abc");
    padded.extend([0; 20]);
    assert_eq!(decode(&padded, true), Some(&b"abc"[..]));
}

#[test]
fn damage_is_noticed() {
    let whole = answer(b"hello");
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        assert_eq!(decode(&bytes, true), None, "byte {place}");
    }
    for length in 0..whole.len() {
        assert_eq!(decode(&whole[..length], true), None, "{length} bytes");
    }
}

/// A sender on the same host leaves the checksum to hardware that is not there; one of 0 was never computed.
#[test]
fn checksums_that_mean_nothing() {
    let mut bytes = answer(b"hello");
    bytes[26] ^= 1;
    assert_eq!(decode(&bytes, true), None);
    assert_eq!(decode(&bytes, false), Some(&b"hello"[..]));
    bytes[26..28].copy_from_slice(&[0, 0]);
    assert_eq!(decode(&bytes, true), Some(&b"hello"[..]));
}

#[test]
fn fragments_and_others() {
    let from_a_client = encode(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::BROADCAST, b"x");
    assert_eq!(decode(&from_a_client, true), None);
    let mut fragment = answer(b"hello");
    // "More fragments", and the header's sum made right again.
    fragment[6] = 0x20;
    fragment[10] -= 0x20;
    assert_eq!(decode(&fragment, true), None);
}
