//! A rule in words: its expressions are followed with words in the registers instead of bytes.

use std::collections::BTreeMap;

use netns_tools::iptables::Family;
use netns_tools::nftables::{
    Ct, DynsetOp, Expr, FibFlags, Header, MapOf, Meta, NatFlags, NatKind, Op, Reg, RegRange,
    Reject, Rule, Type, Value,
};

use super::super::layout::{self, SetName};

/// What a register holds, in words.
#[derive(Clone, Debug)]
struct Held {
    words: String,
    /// How many words of four bytes.
    len: u32,
    form: Form,
}

/// How a comparison with it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Address,
    Interface,
    AddressType,
    States,
    Status,
    Protocol,
    Random,
    /// An address or a port of the rule's own.
    Constant,
    Number,
}

/// A mask that is not written yet, as how it is depends on what follows.
#[derive(Clone, Copy, Debug)]
struct Mask {
    mask: Value,
    xor: Value,
}

struct Reader {
    family: Family,
    held: BTreeMap<u32, Held>,
    mask: Option<Mask>,
    statements: Vec<String>,
}

/// A rule as nft lists it.
pub fn rule(family: Family, rule: &Rule) -> String {
    let (held, statements) = (BTreeMap::new(), Vec::new());
    let mut reader = Reader { family, held, mask: None, statements };
    for expression in rule.expressions() {
        reader.read(expression);
    }
    let mut text = reader.statements.join(" ");
    if let Some(remark) = rule.remark() {
        text.push_str(&format!(" comment \"{remark}\""));
    }
    text
}

fn bits(value: Value) -> u32 {
    <[u8; 4]>::try_from(value.as_slice()).map_or(0, u32::from_ne_bytes)
}

/// How many words of four bytes the fields take.
fn words(fields: &[Type]) -> u32 {
    fields.iter().map(|field| field.size().div_ceil(4)).sum()
}

/// How many leading bits are set.
fn prefix(mask: Value) -> u32 {
    mask.as_slice().iter().map(|byte| byte.leading_ones()).sum()
}

impl Reader {
    fn hold(&mut self, reg: Reg, words: impl Into<String>, len: u32, form: Form) {
        self.mask = None;
        if let Some(word) = reg.first_word() {
            self.held.insert(word, Held { words: words.into(), len, form });
        }
    }

    fn say(&mut self, words: impl Into<String>) {
        self.statements.push(words.into());
    }

    fn held(&self, reg: Reg) -> Option<&Held> {
        self.held.get(&reg.first_word()?)
    }

    fn words(&self, reg: Reg) -> String {
        self.held(reg).map_or_else(|| "?".to_owned(), |held| held.words.clone())
    }

    /// The key that begins in a register and has so many words of four bytes.
    fn key(&self, reg: Reg, len: u32) -> String {
        let Some(begin) = reg.first_word() else { return "?".to_owned() };
        let (mut word, mut parts) = (begin, Vec::new());
        while word < begin + len {
            let Some(held) = self.held.get(&word) else { break };
            parts.push(held.words.clone());
            word += held.len.max(1);
        }
        parts.join(" . ")
    }

    fn read(&mut self, expression: &Expr) {
        match expression {
            Expr::Meta { dreg, key } => self.meta(*dreg, *key),
            Expr::Payload { dreg, base, offset, len } => {
                self.payload(*dreg, *base, *offset, *len);
            }
            Expr::Ct { dreg, key, .. } => {
                let (words, kind) = match *key {
                    Ct::STATE => ("ct state", Form::States),
                    Ct::STATUS => ("ct status", Form::Status),
                    _ => ("ct mark", Form::Number),
                };
                self.hold(*dreg, words, 1, kind);
            }
            Expr::Fib { dreg, flags, .. } => {
                let side = if *flags == FibFlags::SADDR { "saddr" } else { "daddr" };
                self.hold(*dreg, format!("fib {side} type"), 1, Form::AddressType);
            }
            Expr::Numgen { dreg, modulus, offset, random } => {
                let how = if *random { "random" } else { "inc" };
                let mut words = format!("numgen {how} mod {modulus}");
                if *offset > 0 {
                    words.push_str(&format!(" offset {offset}"));
                }
                self.hold(*dreg, words, 1, Form::Random);
            }
            Expr::Bitwise { mask, xor, .. } => {
                self.mask = Some(Mask { mask: *mask, xor: *xor });
            }
            Expr::Cmp { sreg, op, value } => self.compare(*sreg, *op, *value),
            Expr::Lookup { set, sreg, dreg, invert } => self.lookup(set, *sreg, *dreg, *invert),
            Expr::Immediate { dreg, value } => {
                let (words, len) = constant(*value);
                self.hold(*dreg, words, len, Form::Constant);
            }
            _ => self.act(expression),
        }
    }

    fn meta(&mut self, dreg: Reg, key: Meta) {
        let (words, len, kind) = match key {
            Meta::MARK => ("meta mark", 1, Form::Number),
            Meta::L4PROTO => ("meta l4proto", 1, Form::Protocol),
            Meta::IIFNAME => ("iifname", 4, Form::Interface),
            Meta::OIFNAME => ("oifname", 4, Form::Interface),
            _ => ("meta", 1, Form::Number),
        };
        self.hold(dreg, words, len, kind);
    }

    fn payload(&mut self, dreg: Reg, base: Header, offset: u32, len: u32) {
        let family = layout::packets(self.family).name();
        let source = match self.family {
            Family::V4 => 12,
            Family::V6 => 8,
        };
        let words = match (base, offset) {
            (Header::NETWORK, offset) if offset == source => format!("{family} saddr"),
            (Header::NETWORK, _) => format!("{family} daddr"),
            (_, 0) => "th sport".to_owned(),
            _ => "th dport".to_owned(),
        };
        let kind = if base == Header::NETWORK { Form::Address } else { Form::Number };
        self.hold(dreg, words, len.div_ceil(4), kind);
    }

    fn compare(&mut self, sreg: Reg, op: Op, value: Value) {
        let Some(held) = self.held(sreg).cloned() else { return };
        let not = if op == Op::NE { "!= " } else { "" };
        let mask = self.mask.take();
        let words = match (held.form, mask) {
            (Form::Address, mask) => {
                format!("{} {not}{}", held.words, self.range(value, mask))
            }
            (Form::Interface, _) => format!("{} {not}{}", held.words, interface(value)),
            (Form::AddressType, _) => format!("{} {not}local", held.words),
            (Form::States, Some(mask)) => format!("{} {}", held.words, states(bits(mask.mask))),
            (Form::Protocol, _) => format!("{} {not}{}", held.words, protocol(value)),
            (Form::Random, _) => format!("{} {not}{}", held.words, bits(value)),
            (Form::Status, _) => format!("{} dnat", held.words),
            (_, Some(mask)) => {
                let sign = if op == Op::NE { "!=" } else { "==" };
                let (mask, value) = (bits(mask.mask), bits(value));
                format!("{} & {mask:#010x} {sign} {value:#010x}", held.words)
            }
            (_, None) => format!("{} {not}{:#010x}", held.words, bits(value)),
        };
        self.say(words);
    }

    /// Of an address fewer bytes may be read than it has.
    fn range(&self, value: Value, mask: Option<Mask>) -> String {
        let whole = if self.family == Family::V4 { 4 } else { 16 };
        let mut bytes = value.as_slice().to_vec();
        let read = bytes.len();
        bytes.resize(whole, 0);
        let address = super::address(&bytes);
        match mask {
            Some(mask) => format!("{address}/{}", prefix(mask.mask)),
            None if read < whole => format!("{address}/{}", 8 * read),
            None => address,
        }
    }

    fn key_words(&self, set: &str) -> u32 {
        layout::key_of(set, self.family).map_or(1, words)
    }

    fn lookup(&mut self, set: &str, sreg: Reg, dreg: Option<Reg>, invert: bool) {
        let name = SetName::by_name(set);
        let len = self.key_words(set);
        let key = self.key(sreg, len);
        match dreg {
            None => {
                let not = if invert { "!= " } else { "" };
                self.say(format!("{key} {not}@{set}"));
            }
            Some(Reg::VERDICT) => self.say(format!("{key} vmap @{set}")),
            Some(dreg) => {
                let len = match name.and_then(|name| name.map(self.family)) {
                    Some(MapOf::Data(fields)) => words(fields),
                    _ => 1,
                };
                self.hold(dreg, format!("{key} map @{set}"), len, Form::Number);
            }
        }
    }

    fn act(&mut self, expression: &Expr) {
        match expression {
            Expr::Verdict(verdict) => self.say(super::verdict_words(verdict)),
            Expr::MetaSet { sreg, .. } => {
                let words = self.new_mark(*sreg);
                self.say(format!("meta mark set {words}"));
            }
            Expr::Reject(Reject::TcpReset) => {
                // of what is TCP only, nft says no more
                self.statements.retain(|statement| statement != "meta l4proto tcp");
                self.say("reject with tcp reset");
            }
            Expr::Reject(_) => self.say("reject"),
            Expr::Masquerade { flags, .. } => {
                let how = if *flags == NatFlags::FULLY_RANDOM { " fully-random" } else { "" };
                self.say(format!("masquerade{how}"));
            }
            Expr::Nat { kind, family, addr, port, .. } => {
                let kind = if *kind == NatKind::Destination { "dnat" } else { "snat" };
                let to = addr.map_or_else(String::new, |addr| self.words(addr.from));
                let constant = |port: &RegRange| {
                    self.held(port.from).filter(|held| held.form == Form::Constant)
                };
                let words = match port.as_ref().and_then(constant) {
                    Some(port) if self.family == Family::V4 => {
                        format!("{kind} to {to}:{}", port.words)
                    }
                    Some(port) => format!("{kind} to [{to}]:{}", port.words),
                    None => format!("{kind} {} to {to}", family.name()),
                };
                self.say(words);
            }
            Expr::Dynset { set, op, key, data, timeout } => {
                let what = match *op {
                    DynsetOp::ADD => "add",
                    DynsetOp::UPDATE => "update",
                    _ => "delete",
                };
                let len = self.key_words(set);
                let mut element = self.key(*key, len);
                if let Some(timeout) = timeout {
                    element.push_str(&format!(" timeout {}s", timeout.as_secs()));
                }
                if let Some(data) = data.filter(|_| *op != DynsetOp::DELETE) {
                    element.push_str(&format!(" : {}", self.words(data)));
                }
                self.say(format!("{what} @{set} {{ {element} }}"));
            }
            other => self.say(other.name().to_owned()),
        }
    }

    fn new_mark(&mut self, sreg: Reg) -> String {
        let words = self.words(sreg);
        let Some(Mask { mask, xor }) = self.mask.take() else { return words };
        let (mask, xor) = (bits(mask), bits(xor));
        match xor {
            0 => format!("{words} & {mask:#010x}"),
            _ if mask == !xor => format!("{words} | {xor:#010x}"),
            _ => format!("{words} & {mask:#010x} ^ {xor:#010x}"),
        }
    }
}

/// An address, or a port; and how many words of four bytes it has.
fn constant(value: Value) -> (String, u32) {
    match value.as_slice() {
        [high, low] => (u16::from_be_bytes([*high, *low]).to_string(), 1),
        bytes => (super::address(bytes), if bytes.len() > 4 { 4 } else { 1 }),
    }
}

fn protocol(value: Value) -> String {
    value.as_slice().first().map_or_else(|| "?".to_owned(), |number| super::protocol(*number))
}

/// Less than a whole name is what names begin with.
fn interface(value: Value) -> String {
    let bytes = value.as_slice();
    let name: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte > 0).collect();
    let star = if name.len() == bytes.len() { "*" } else { "" };
    format!("\"{}{star}\"", String::from_utf8_lossy(&name))
}

fn states(bits: u32) -> String {
    use netns_tools::nftables::ct_state::{ESTABLISHED, INVALID, NEW, RELATED};
    let names =
        [(INVALID, "invalid"), (ESTABLISHED, "established"), (RELATED, "related"), (NEW, "new")];
    let set = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}
