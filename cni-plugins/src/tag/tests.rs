use netns_tools::link::attributes::ALIAS_MAX;

use super::*;

fn valid(list: &[(&str, &str)]) -> Vec<ValidAttachment> {
    let one = |(id, ifname): &(&str, &str)| ValidAttachment {
        container_id: (*id).into(),
        ifname: (*ifname).into(),
    };
    list.iter().map(one).collect()
}

#[test]
fn the_text() {
    assert_eq!(of("net", "c1", "eth0"), "cni:net:c1:eth0");
    let long = "x".repeat(300);
    let texts =
        [of(&long, "c", "eth0"), of("net", &long, "eth0"), of(&long, &long, "fifteen-letters")];
    for text in &texts {
        assert!(text.len() <= ALIAS_MAX, "{text}");
        assert!(text.contains('#'), "{text}");
    }
    assert_ne!(of("net", &long, "eth0"), of("net", &"y".repeat(300), "eth0"));
    let longest = "x".repeat(LONGEST);
    assert!(of(&longest, &longest, "fifteen-letters").len() <= ALIAS_MAX);
}

#[test]
fn what_is_such_a_text() {
    let long = "x".repeat(300);
    for tag in [of("net", "c1", "eth0"), of(&long, &long, "eth0")] {
        assert!(is_tag(&tag), "{tag}");
    }
    for other in ["", "cni:", "cni:net", "cni:net:c1", "cni:a:b:c:d", "uplink to cni:a:b:c", "net"]
    {
        assert!(!is_tag(other), "{other}");
    }
}

#[test]
fn garbage_is_this_network_s_and_not_valid() {
    let valid = valid(&[("c1", "eth0"), ("c2", "net1")]);
    let cases = [
        ("cni:net:c1:eth0", false),
        ("cni:net:c2:net1", false),
        ("cni:net:c1:net1", true),
        ("cni:net:c3:eth0", true),
        // Another network's, though its name begins alike; somebody else's words.
        ("cni:net2:c3:eth0", false),
        ("cni:ne:c3:eth0", false),
        ("cni:", false),
        ("net", false),
        ("uplink to cni:net:c3:eth0", false),
        ("", false),
    ];
    for (tag, expected) in cases {
        assert_eq!(is_stale(tag, "net", &valid), expected, "{tag}");
    }
    let long = "x".repeat(300);
    assert!(is_stale(&of(&long, "c", "eth0"), &long, &valid));
    assert!(!is_stale(&of("net", &long, "eth0"), "net", &self::valid(&[(&long, "eth0")])));
    assert!(is_stale(&of("net", &long, "eth0"), "net", &valid));
}
