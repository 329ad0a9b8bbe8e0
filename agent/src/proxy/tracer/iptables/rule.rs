//! One rule: its matches and its target, from its words.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

use super::super::path::{Decision, Flight};

/// A rule that is understood.
#[derive(Debug)]
pub(super) struct Rule {
    matches: Vec<(bool, Match)>,
    pub(super) target: Target,
}

#[derive(Debug)]
enum Match {
    Source(IpNetwork),
    Destination(IpNetwork),
    Protocol(String),
    DestinationPort(u16, u16),
    Input(String),
    Output(String),
    PortInput(String),
    SourceIsLocal,
    DestinationIsLocal,
    States(Vec<String>),
    Mark {
        value: u32,
        mask: u32,
    },
    Random(f64),
    /// Seen less than this ago.
    SeenWithin {
        list: String,
        time: Duration,
    },
    /// Always matches, and notes the source.
    See {
        list: String,
    },
}

#[derive(Debug)]
pub(super) enum Target {
    None,
    Decide(Decision),
    Return,
    Jump(String),
    Goto(String),
    Mark { value: u32, mask: u32 },
    Dnat { address: IpAddr, port: Option<u16> },
    Masquerade,
}

/// The words of a rule that are left.
struct Words<'a> {
    rest: std::iter::Peekable<std::slice::Iter<'a, String>>,
    family: Family,
}

type Parsed<T> = std::result::Result<T, String>;

impl<'a> Words<'a> {
    fn value(&mut self, option: &str) -> Parsed<&'a str> {
        let value = self.rest.next().map(String::as_str);
        value.ok_or_else(|| format!("{option} has no value"))
    }

    fn parsed<T: std::str::FromStr>(&mut self, option: &str) -> Parsed<T> {
        let word = self.value(option)?;
        word.parse().map_err(|_| format!("{option} {word}"))
    }

    fn network(&mut self, option: &str) -> Parsed<IpNetwork> {
        let network: IpNetwork = self.parsed(option)?;
        if network.is_ipv4() == (self.family == Family::V4) {
            Ok(network)
        } else {
            Err(format!("{option} {network} is of the other family"))
        }
    }

    /// Whether a flag without a value follows.
    fn flag(&mut self, name: &str) -> bool {
        self.rest.next_if(|word| *word == name).is_some()
    }
}

impl Rule {
    /// Words behind `-A CHAIN`.
    pub(super) fn parse(words: &[String], family: Family) -> Parsed<Self> {
        let mut words = Words { rest: words.iter().peekable(), family };
        let mut rule = Self { matches: Vec::new(), target: Target::None };
        while let Some(word) = words.rest.next() {
            let negated = word == "!";
            let option = if negated { words.value("!")? } else { word.as_str() };
            match option {
                "-j" | "-g" if negated => return Err("! before a target".to_owned()),
                "-j" | "-g" => rule.target = target(option, &mut words)?,
                _ => {
                    let found = rule_match(option, &mut words)?;
                    if found.is_none() && negated {
                        return Err(format!("! {option}"));
                    }
                    rule.matches.extend(found.map(|found| (negated, found)));
                }
            }
        }
        Ok(rule)
    }

    pub(super) fn matches(&self, flight: &mut Flight<'_>) -> bool {
        self.matches.iter().all(|(negated, wanted)| wanted.holds(flight) != *negated)
    }
}

/// Match modules whose options are known here, and that do nothing without them.
const MODULES: [&str; 10] = [
    "tcp",
    "udp",
    "sctp",
    "comment",
    "addrtype",
    "conntrack",
    "mark",
    "statistic",
    "physdev",
    "nfacct",
];

/// `None`: an option that never keeps a rule from matching.
fn rule_match(option: &str, words: &mut Words<'_>) -> Parsed<Option<Match>> {
    Ok(Some(match option {
        "-m" => return module(words),
        "--comment" | "--nfacct-name" => {
            words.value(option)?;
            return Ok(None);
        }
        "-s" => Match::Source(words.network(option)?),
        "-d" => Match::Destination(words.network(option)?),
        "-p" => Match::Protocol(words.value(option)?.to_owned()),
        "--dport" => ports(words.value(option)?)?,
        "-i" => Match::Input(words.value(option)?.to_owned()),
        "-o" => Match::Output(words.value(option)?.to_owned()),
        "--physdev-in" => Match::PortInput(words.value(option)?.to_owned()),
        "--src-type" | "--dst-type" => address_type(option, words.value(option)?)?,
        "--ctstate" => states(words.value(option)?)?,
        "--mark" => {
            let (value, mask) = masked(words.value(option)?)?;
            Match::Mark { value, mask }
        }
        "--mode" => statistic(words)?,
        other => return Err(format!("{other} is not understood")),
    }))
}

fn module(words: &mut Words<'_>) -> Parsed<Option<Match>> {
    let name = words.value("-m")?;
    if name == "recent" {
        return recent(words).map(Some);
    }
    if MODULES.contains(&name) { Ok(None) } else { Err(format!("-m {name} is not understood")) }
}

fn ports(word: &str) -> Parsed<Match> {
    let (first, last) = word.split_once(':').unwrap_or((word, word));
    let number = |text: &str| text.parse().map_err(|_| format!("--dport {word}"));
    Ok(Match::DestinationPort(number(first)?, number(last)?))
}

fn address_type(option: &str, word: &str) -> Parsed<Match> {
    match (option, word) {
        ("--src-type", "LOCAL") => Ok(Match::SourceIsLocal),
        ("--dst-type", "LOCAL") => Ok(Match::DestinationIsLocal),
        _ => Err(format!("{option} {word} is not understood")),
    }
}

fn states(word: &str) -> Parsed<Match> {
    let known = ["NEW", "INVALID", "RELATED", "ESTABLISHED", "DNAT", "SNAT"];
    let states: Vec<String> = word.split(',').map(str::to_owned).collect();
    match states.iter().find(|state| !known.contains(&state.as_str())) {
        Some(unknown) => Err(format!("--ctstate {unknown} is not understood")),
        None => Ok(Match::States(states)),
    }
}

fn number(word: &str) -> Parsed<u32> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("{word} is not a number"))
}

fn masked(word: &str) -> Parsed<(u32, u32)> {
    match word.split_once('/') {
        Some((value, mask)) => Ok((number(value)?, number(mask)?)),
        None => Ok((number(word)?, u32::MAX)),
    }
}

fn statistic(words: &mut Words<'_>) -> Parsed<Match> {
    let mode = words.value("--mode")?;
    if mode != "random" || !words.flag("--probability") {
        return Err(format!("--mode {mode} without --probability is not understood"));
    }
    Ok(Match::Random(words.parsed("--probability")?))
}

/// The options behind `-m recent`, in any order. `--seconds` counts whole seconds; `--reap` forgets older ones, which changes
/// nothing that can be seen here; `--rsource` is the default.
fn recent(words: &mut Words<'_>) -> Parsed<Match> {
    let (mut list, mut seconds, mut verb) = (None, None, None);
    loop {
        if words.flag("--name") {
            list = Some(words.value("--name")?.to_owned());
        } else if words.flag("--seconds") {
            seconds = Some(words.parsed("--seconds")?);
        } else if words.flag("--mask") {
            full_mask(words.value("--mask")?)?;
        } else if words.flag("--rcheck") {
            verb = Some("--rcheck");
        } else if words.flag("--set") {
            verb = Some("--set");
        } else if !words.flag("--reap") && !words.flag("--rsource") {
            break;
        }
    }
    let list = list.ok_or("-m recent without --name")?;
    match (verb, seconds) {
        (Some("--set"), None) => Ok(Match::See { list }),
        (Some("--rcheck"), Some(seconds)) => {
            Ok(Match::SeenWithin { list, time: Duration::from_secs(seconds) })
        }
        _ => Err("-m recent with these options is not understood".to_owned()),
    }
}

fn full_mask(word: &str) -> Parsed<()> {
    let full = ["255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"];
    if full.contains(&word) { Ok(()) } else { Err(format!("--mask {word} is not understood")) }
}

fn target(option: &str, words: &mut Words<'_>) -> Parsed<Target> {
    let name = words.value(option)?;
    Ok(match name {
        "ACCEPT" => Target::Decide(Decision::Accept),
        "DROP" => Target::Decide(Decision::Drop),
        "RETURN" => Target::Return,
        "REJECT" => {
            if words.flag("--reject-with") {
                words.value("--reject-with")?;
            }
            Target::Decide(Decision::Reject)
        }
        "MARK" => mark(words)?,
        "MASQUERADE" => {
            words.flag("--random-fully");
            Target::Masquerade
        }
        "DNAT" => dnat(words)?,
        chain if chain.chars().any(|c| c.is_ascii_lowercase()) || chain.contains('-') => {
            user_chain(option, chain)
        }
        other => return Err(format!("target {other} is not understood")),
    })
}

fn user_chain(option: &str, name: &str) -> Target {
    if option == "-g" { Target::Goto(name.to_owned()) } else { Target::Jump(name.to_owned()) }
}

/// `--set-xmark V/M`: clears the bits of M, then flips those of V. `--or-mark V` is `--set-xmark V/V`.
fn mark(words: &mut Words<'_>) -> Parsed<Target> {
    if words.flag("--set-xmark") {
        let (value, mask) = masked(words.value("--set-xmark")?)?;
        return Ok(Target::Mark { value, mask });
    }
    if words.flag("--or-mark") {
        let value = number(words.value("--or-mark")?)?;
        return Ok(Target::Mark { value, mask: value });
    }
    if words.flag("--xor-mark") {
        let value = number(words.value("--xor-mark")?)?;
        return Ok(Target::Mark { value, mask: 0 });
    }
    Err("MARK with other options is not understood".to_owned())
}

fn dnat(words: &mut Words<'_>) -> Parsed<Target> {
    if !words.flag("--to-destination") {
        return Err("DNAT without --to-destination".to_owned());
    }
    let word = words.value("--to-destination")?;
    if let Ok(socket) = word.parse::<std::net::SocketAddr>() {
        return Ok(Target::Dnat { address: socket.ip(), port: Some(socket.port()) });
    }
    let address = word.parse().map_err(|_| format!("--to-destination {word}"))?;
    Ok(Target::Dnat { address, port: None })
}

impl Match {
    fn holds(&self, flight: &mut Flight<'_>) -> bool {
        let packet = &flight.packet;
        match self {
            Self::Source(network) => network.contains(packet.source),
            Self::Destination(network) => network.contains(packet.destination),
            Self::Protocol(name) => {
                *name == packet.protocol.as_str() || *name == packet.protocol.number().to_string()
            }
            Self::DestinationPort(first, last) => (*first..=*last).contains(&packet.port),
            Self::Input(pattern) => is_named(pattern, flight.input.as_deref()),
            Self::Output(pattern) => is_named(pattern, flight.output.as_deref()),
            Self::PortInput(pattern) => is_named(pattern, flight.input_port.as_deref()),
            Self::SourceIsLocal => flight.host.is_local(packet.source),
            Self::DestinationIsLocal => flight.host.is_local(packet.destination),
            Self::States(states) => states.iter().any(|state| has_state(flight, state)),
            Self::Mark { value, mask } => flight.mark & mask == *value,
            Self::Random(probability) => flight.pick(&[*probability, 1.0 - *probability]) == 0,
            Self::SeenWithin { list, time } => {
                let seen = flight.memory.get(list, &octets(packet.source));
                seen.is_some_and(|seen| seen.age < *time)
            }
            Self::See { list } => {
                let key = octets(packet.source);
                flight.memory.note(list, &key, &[], None);
                true
            }
        }
    }
}

/// `+` at the end stands for anything.
fn is_named(pattern: &str, name: Option<&str>) -> bool {
    name.is_some_and(|name| match pattern.strip_suffix('+') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    })
}

fn has_state(flight: &Flight<'_>, state: &str) -> bool {
    match state {
        "NEW" => true,
        "DNAT" => flight.is_dnat(),
        "SNAT" => flight.is_snat(),
        _ => false,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
