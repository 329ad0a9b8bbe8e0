//! `resolv.conf(5)` into the `dns` of a result.

use cni::Dns;

/// Reads what a CNI result can carry: name servers, domain, search list and options.
///
/// Lines beginning with `#` or `;` and unknown keywords are passed over. A later `domain`, `search` or
/// `options` line adds to the earlier ones, as in the reference plugin, except that the last `domain` wins.
pub fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_a_result_can_carry() {
        let text = "# a comment\n; another\nnameserver 10.96.0.10\n\tnameserver  fd00::a # not a comment in this place\n\
            domain old.example\ndomain example.net\nsearch a.example b.example\nsearch c.example\n\
            options ndots:5 edns0\nsortlist 10.0.0.0\nnameserver\n";
        let dns = parse(text);
        assert_eq!(dns.nameservers, ["10.96.0.10", "fd00::a"]);
        assert_eq!(dns.domain, "example.net");
        assert_eq!(dns.search, ["a.example", "b.example", "c.example"]);
        assert_eq!(dns.options, ["ndots:5", "edns0"]);
        assert_eq!(parse(""), Dns::default());
    }
}
