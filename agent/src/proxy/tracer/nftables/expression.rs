//! One rule's expressions, one after the other.

use std::net::IpAddr;
use std::time::Duration;

use netns_tools::nftables::{
    Ct, Data, DynsetOp, Expr, Family, FibFlags, FibResult, Header, Hook, Meta, NatKind, Op, Reg,
    RegRange, Value, Verdict, ct_state, ct_status,
};

use super::super::path::Flight;
use super::register::Registers;
use super::ruleset::{NftRuleset, Stored};

/// What a rule says of a packet.
pub(super) enum Outcome {
    Verdict(Verdict),
    Rejected,
}

/// Whether the next expression is looked at.
enum Step {
    Next,
    Differs,
    End(Outcome),
}

type Answer<T> = Result<T, String>;

/// `RTN_UNICAST` and `RTN_LOCAL` (`linux/rtnetlink.h`).
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6` (`linux/netfilter.h`).
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// A rule that a packet meets.
pub(super) struct Run<'a, 'b> {
    ruleset: &'a NftRuleset,
    flight: &'a mut Flight<'b>,
    registers: Registers,
    hook: Hook,
}

fn matches(it_does: bool) -> Step {
    if it_does { Step::Next } else { Step::Differs }
}

impl<'a, 'b> Run<'a, 'b> {
    pub(super) fn new(ruleset: &'a NftRuleset, flight: &'a mut Flight<'b>, hook: Hook) -> Self {
        Self { ruleset, flight, registers: Registers::default(), hook }
    }

    pub(super) fn rule(mut self, expressions: &[Expr]) -> Answer<Outcome> {
        for expression in expressions {
            match self.step(expression)? {
                Step::Next => {}
                Step::Differs => break,
                Step::End(outcome) => return Ok(outcome),
            }
        }
        Ok(Outcome::Verdict(Verdict::Continue))
    }

    fn step(&mut self, expression: &Expr) -> Answer<Step> {
        match expression {
            Expr::Meta { .. }
            | Expr::Payload { .. }
            | Expr::Ct { .. }
            | Expr::Fib { .. }
            | Expr::Numgen { .. }
            | Expr::Immediate { .. }
            | Expr::Bitwise { .. } => self.load(expression).map(|()| Step::Next),
            Expr::Cmp { .. } | Expr::Range { .. } => self.compare(expression).map(matches),
            Expr::Lookup { set, sreg, dreg, invert } => self.lookup(set, *sreg, *dreg, *invert),
            Expr::MetaSet { key: Meta::MARK, sreg } => {
                self.flight.mark = self.number(*sreg)?;
                Ok(Step::Next)
            }
            Expr::Verdict(verdict) => Ok(Step::End(Outcome::Verdict(verdict.clone()))),
            Expr::Reject(_) => Ok(Step::End(Outcome::Rejected)),
            Expr::Nat { .. } | Expr::Masquerade { .. } => self.translate(expression),
            Expr::Counter { .. } => Ok(Step::Next),
            Expr::Dynset { set, op, key, data, timeout } => {
                self.remember(set, *op, *key, *data, *timeout).map(|()| Step::Next)
            }
            other => Err(format!("{other:?} is not understood")),
        }
    }

    fn load(&mut self, expression: &Expr) -> Answer<()> {
        let (dreg, bytes) = match expression {
            Expr::Meta { dreg, key } => (dreg, self.meta(*key)?),
            Expr::Payload { dreg, base, offset, len } => {
                (dreg, self.payload(*base, *offset as usize, *len as usize)?)
            }
            Expr::Ct { dreg, key, direction } => (dreg, self.ct(*key, *direction)?),
            Expr::Fib { dreg, result, flags } => (dreg, self.fib(*result, *flags)?),
            Expr::Numgen { dreg, modulus, offset, .. } => (dreg, self.numgen(*modulus, *offset)?),
            Expr::Immediate { dreg, value } => (dreg, value.as_slice().to_vec()),
            Expr::Bitwise { sreg, dreg, mask, xor } => (dreg, self.bitwise(*sreg, mask, xor)?),
            other => return Err(format!("{other:?} loads nothing")),
        };
        self.registers.write(*dreg, &bytes)
    }

    fn number(&self, register: Reg) -> Answer<u32> {
        let bytes = self.registers.read(register, 4)?;
        bytes.try_into().map(u32::from_ne_bytes).map_err(|_| "not four bytes".to_owned())
    }

    fn meta(&self, key: Meta) -> Answer<Vec<u8>> {
        let packet = &self.flight.packet;
        let name = |name: &Option<String>| {
            Value::interface(name.as_deref().unwrap_or_default()).as_slice().to_vec()
        };
        Ok(match key {
            Meta::MARK => self.flight.mark.to_ne_bytes().to_vec(),
            Meta::L4PROTO => vec![packet.protocol.number()],
            Meta::NFPROTO => vec![if packet.destination.is_ipv4() { IPV4 } else { IPV6 }],
            Meta::IIFNAME => name(&self.flight.input),
            Meta::OIFNAME => name(&self.flight.output),
            other => return Err(format!("meta {other:?} is not understood")),
        })
    }

    /// Of the headers only what a packet tells here: addresses, protocol, destination port.
    fn payload(&self, base: Header, offset: usize, len: usize) -> Answer<Vec<u8>> {
        let packet = &self.flight.packet;
        let (source, destination) = (octets(packet.source), octets(packet.destination));
        let first = if packet.source.is_ipv4() { 12 } else { 8 };
        let second = first + source.len();
        let port = packet.port.to_be_bytes();
        let known: [(Header, usize, &[u8]); 3] = [
            (Header::NETWORK, first, &source),
            (Header::NETWORK, second, &destination),
            (Header::TRANSPORT, 2, &port),
        ];
        let within = |(of, start, bytes): (Header, usize, &[u8])| {
            let from = offset.checked_sub(start).filter(|_| of == base)?;
            bytes.get(from..from + len).map(<[u8]>::to_vec)
        };
        let unknown = || format!("{len} bytes at {offset} of {base:?} are not known");
        known.into_iter().find_map(within).ok_or_else(unknown)
    }

    fn ct(&self, key: Ct, direction: Option<u8>) -> Answer<Vec<u8>> {
        let original = self.flight.original;
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        Ok(match (key, direction) {
            (Ct::STATE, None) => ct_state::NEW.to_ne_bytes().to_vec(),
            (Ct::STATUS, None) => {
                let status = bit(self.flight.is_dnat(), ct_status::DNAT)
                    | bit(self.flight.is_snat(), ct_status::SNAT);
                status.to_ne_bytes().to_vec()
            }
            (Ct::MARK, None) => vec![0; 4],
            (Ct::DIRECTION, None) => vec![0],
            (Ct::PROTOCOL, Some(0)) => vec![original.protocol.number()],
            (Ct::PROTO_DST, Some(0)) => original.port.to_be_bytes().to_vec(),
            (Ct::DST_IP | Ct::DST_IP6, Some(0)) => octets(original.destination),
            (Ct::SRC_IP | Ct::SRC_IP6, Some(0)) => octets(original.source),
            _ => return Err(format!("ct {key:?} of direction {direction:?} is not understood")),
        })
    }

    fn fib(&self, result: FibResult, flags: FibFlags) -> Answer<Vec<u8>> {
        let address = match flags {
            FibFlags::DADDR => self.flight.packet.destination,
            FibFlags::SADDR => self.flight.packet.source,
            _ => return Err(format!("fib {flags:?} is not understood")),
        };
        if result != FibResult::ADDRTYPE {
            return Err(format!("fib {result:?} is not understood"));
        }
        let kind = if self.flight.host.is_local(address) { RTN_LOCAL } else { RTN_UNICAST };
        Ok(kind.to_ne_bytes().to_vec())
    }

    fn numgen(&mut self, modulus: u32, offset: u32) -> Answer<Vec<u8>> {
        if modulus == 0 {
            return Err("numgen with the modulus 0".to_owned());
        }
        let weights = vec![1.0 / f64::from(modulus); modulus as usize];
        let picked = u32::try_from(self.flight.pick(&weights)).map_err(|e| e.to_string())?;
        Ok((offset + picked).to_ne_bytes().to_vec())
    }

    fn bitwise(&self, sreg: Reg, mask: &Value, xor: &Value) -> Answer<Vec<u8>> {
        let bytes = self.registers.read(sreg, mask.as_slice().len())?;
        let masked = bytes.iter().zip(mask.as_slice()).map(|(byte, mask)| byte & mask);
        Ok(masked.zip(xor.as_slice()).map(|(byte, xor)| byte ^ xor).collect())
    }

    /// Numbers in network byte order, or in any if it is only asked whether they are equal (`memcmp` in `nft_cmp.c`).
    fn compare(&self, expression: &Expr) -> Answer<bool> {
        match expression {
            Expr::Cmp { sreg, op, value } => {
                let bytes = self.registers.read(*sreg, value.as_slice().len())?;
                let order = bytes.as_slice().cmp(value.as_slice());
                Ok(match *op {
                    Op::EQ => order.is_eq(),
                    Op::NE => order.is_ne(),
                    Op::LT => order.is_lt(),
                    Op::LE => order.is_le(),
                    Op::GT => order.is_gt(),
                    Op::GE => order.is_ge(),
                    other => return Err(format!("comparison {other:?}")),
                })
            }
            Expr::Range { sreg, op, from, to } => {
                let bytes = self.registers.read(*sreg, from.as_slice().len())?;
                let within =
                    from.as_slice() <= bytes.as_slice() && bytes.as_slice() <= to.as_slice();
                Ok(within == (*op == Op::EQ))
            }
            other => Err(format!("{other:?} compares nothing")),
        }
    }

    /// In a set that rules fill, also what they put there counts.
    fn lookup(&mut self, name: &str, sreg: Reg, dreg: Option<Reg>, invert: bool) -> Answer<Step> {
        let set = self.ruleset.sets.get(name).ok_or_else(|| format!("there is no set {name}"))?;
        let key = self.registers.read(sreg, set.key_length())?;
        let found = set.find(&key);
        let seen = || self.flight.memory.get(name, &key).map(|seen| seen.data.clone());
        match (found, dreg) {
            (None, Some(dreg)) if let Some(data) = seen() => {
                self.registers.write(dreg, &data)?;
                Ok(Step::Next)
            }
            (None, None) if seen().is_some() => Ok(matches(!invert)),
            (found, None) => Ok(matches(found.is_some() != invert)),
            (_, Some(_)) if invert => Err("an inverted lookup in a map".to_owned()),
            (None, Some(_)) => Ok(Step::Differs),
            (Some(Stored::Data(Data::Value(value))), Some(dreg)) if dreg != Reg::VERDICT => {
                self.registers.write(dreg, value.as_slice())?;
                Ok(Step::Next)
            }
            (Some(Stored::Data(Data::Verdict(verdict))), Some(dreg)) if dreg == Reg::VERDICT => {
                Ok(Step::End(Outcome::Verdict(verdict.clone())))
            }
            (found, Some(_)) => Err(format!("{name} holds {found:?}")),
        }
    }

    /// `nft_dynset_eval` in the kernel's `nft_dynset.c`: what a map holds for a key that is there stays.
    fn remember(
        &mut self,
        name: &str,
        op: DynsetOp,
        key: Reg,
        data: Option<Reg>,
        timeout: Option<Duration>,
    ) -> Answer<()> {
        let set = self.ruleset.sets.get(name).ok_or_else(|| format!("there is no set {name}"))?;
        let key = self.registers.read(key, set.key_length())?;
        let data = data.map(|data| self.registers.read(data, set.data_length())).transpose()?;
        if data.is_none() != set.data.is_empty() {
            return Err(format!("what {name} holds and what it is told do not fit"));
        }
        let memory = &mut self.flight.memory;
        let known = memory.get(name, &key).map(|seen| seen.data.clone());
        let timeout = timeout.or(set.timeout);
        match (op, known) {
            (DynsetOp::DELETE, _) => memory.forget(name, &key),
            (DynsetOp::ADD, Some(_)) => {}
            (DynsetOp::ADD | DynsetOp::UPDATE, known) => {
                memory.note(name, &key, &known.or(data).unwrap_or_default(), timeout);
            }
            _ => return Err(format!("{op:?} is not understood")),
        }
        Ok(())
    }

    fn address(&self, range: RegRange, family: Family) -> Answer<IpAddr> {
        let from = if range.to.is_none_or(|to| to == range.from) {
            range.from
        } else {
            return Err(format!("{range:?}: a range to choose from is not understood"));
        };
        if family == Family::Ip6 {
            let bytes: Answer<[u8; 16]> = fixed(self.registers.read(from, 16)?);
            return bytes.map(IpAddr::from);
        }
        let bytes: Answer<[u8; 4]> = fixed(self.registers.read(from, 4)?);
        bytes.map(IpAddr::from)
    }

    fn translate(&mut self, expression: &Expr) -> Answer<Step> {
        let first = matches!(self.hook, Hook::Prerouting | Hook::Output);
        match expression {
            Expr::Nat { kind: NatKind::Destination, family, addr: Some(addr), port, .. }
                if first =>
            {
                let address = self.address(*addr, *family)?;
                let port = port.map(|range| self.port(range)).transpose()?;
                self.flight.translate_destination(address, port);
            }
            Expr::Masquerade { port: None, .. } if self.hook == Hook::Postrouting => {
                self.flight.masquerade().map_err(|error| error.to_string())?;
            }
            other => return Err(format!("{other:?} at {:?} is not understood", self.hook)),
        }
        Ok(Step::End(Outcome::Verdict(Verdict::Accept)))
    }

    fn port(&self, range: RegRange) -> Answer<u16> {
        if range.to.is_some_and(|to| to != range.from) {
            return Err(format!("{range:?}: a range to choose from is not understood"));
        }
        fixed(self.registers.read(range.from, 2)?).map(u16::from_be_bytes)
    }
}

fn fixed<const N: usize>(bytes: Vec<u8>) -> Answer<[u8; N]> {
    bytes.try_into().map_err(|bytes| format!("{bytes:?} are not {N} bytes"))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
