use super::*;

fn sample() -> Message {
    Message {
        reply: false,
        xid: 0x0102_0304,
        secs: 5,
        broadcast: true,
        ciaddr: Ipv4Addr::new(10, 0, 0, 5),
        yiaddr: Ipv4Addr::new(10, 0, 0, 6),
        chaddr: MacAddr([2, 0, 0, 0, 0, 1]),
        options: Options::from([
            (code::SUBNET_MASK, vec![255, 255, 255, 0]),
            (code::MESSAGE_TYPE, vec![1]),
        ]),
    }
}

#[test]
fn a_message_byte_by_byte() {
    let bytes = sample().encode();
    assert_eq!(bytes.len(), 300);
    assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 5, 0x80, 0]);
    assert_eq!(bytes[12..20], [10, 0, 0, 5, 10, 0, 0, 6]);
    assert_eq!(bytes[28..34], [2, 0, 0, 0, 0, 1]);
    assert_eq!(bytes[236..250], [99, 130, 83, 99, 53, 1, 1, 1, 4, 255, 255, 255, 0, 255]);
    assert!(bytes[250..].iter().all(|byte| *byte == 0));
    assert_eq!(Message::decode(&bytes), Some(sample()));
    assert_eq!(sample().kind(), Some(Kind::Discover));
}

#[test]
fn long_options_are_split_and_joined() {
    let mut message = sample();
    message.options.insert(code::HOST_NAME, vec![7; 600]);
    message.options.insert(80, Vec::new());
    let bytes = message.encode();
    assert_eq!(bytes[bytes.len() - 1], code::END);
    assert_eq!(Message::decode(&bytes), Some(message));
}

#[test]
fn options_in_the_fields_of_file_and_server_name() {
    let mut message = sample();
    message.options.insert(code::OVERLOAD, vec![3]);
    let mut bytes = message.encode();
    bytes[108..114].copy_from_slice(&[51, 2, 1, 2, 255, 9]);
    bytes[44..48].copy_from_slice(&[51, 2, 3, 4]);
    let options = Message::decode(&bytes).unwrap().options;
    assert_eq!(options[&code::LEASE_TIME], [1, 2, 3, 4]);
    assert!(!options.contains_key(&code::OVERLOAD));
}

#[test]
fn what_is_no_message() {
    let whole = sample().encode();
    assert!(Message::decode(&whole[..239]).is_none());
    for (place, value) in [(0, 3), (1, 6), (2, 8), (236, 0)] {
        let mut bytes = whole.clone();
        bytes[place] = value;
        assert!(Message::decode(&bytes).is_none(), "byte {place}");
    }
    // An option that ends outside.
    let mut bytes = whole[..240].to_vec();
    bytes.extend([53, 2, 1]);
    assert!(Message::decode(&bytes).is_none());
    // Every beginning of a message is either a message or none, and no reason to panic.
    for length in 0..whole.len() {
        Message::decode(&whole[..length]);
    }
}

#[test]
fn types_that_no_client_has_to_do_with() {
    let mut message = sample();
    for value in [vec![], vec![4], vec![8], vec![1, 1]] {
        message.options.insert(code::MESSAGE_TYPE, value);
        assert_eq!(message.kind(), None);
    }
    assert_eq!(Kind::Nak.number(), 6);
}
