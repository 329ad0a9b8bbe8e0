//! Rules of nftables, as the kernel has them, as the kernel would follow them.
//!
//! The kernel's `net/netfilter/nf_tables_core.c` (chains and verdicts) and `nft_*.c` (one expression each). Registers are
//! forgotten with each rule: the kernel refuses rules that read what they did not write.

mod expression;
mod register;
mod ruleset;

use netns_tools::nftables::{ChainKind, Hook, Policy, Verdict};

use super::path::{Decision, Flight, Hooks};
use super::{Result, TraceError};
use expression::{Outcome, Run};
pub use ruleset::{NftChain, NftRuleset, NftSet};

/// The kernel's limit of nested chains (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// What a chain ends with.
enum End {
    Returned,
    Decided(Decision),
}

impl NftRuleset {
    fn walk(&self, name: &str, flight: &mut Flight<'_>, hook: Hook, depth: usize) -> Result<End> {
        let chain = self.chains.get(name);
        let chain = chain.ok_or_else(|| TraceError::new(name, "there is no such chain"))?;
        if depth > DEEPEST {
            return Err(TraceError::new(name, "chains jump too deep"));
        }
        for (number, rule) in chain.rules.iter().enumerate() {
            let run = Run::new(self, flight, hook);
            let outcome = run.rule(rule).map_err(|reason| {
                TraceError::new(format!("{name}, rule {number}: {rule:?}"), reason)
            })?;
            if let Some(end) = self.follow(outcome, flight, hook, depth)? {
                return Ok(end);
            }
        }
        Ok(End::Returned)
    }

    /// `None`: the next rule is looked at.
    fn follow(
        &self,
        outcome: Outcome,
        flight: &mut Flight<'_>,
        hook: Hook,
        depth: usize,
    ) -> Result<Option<End>> {
        let verdict = match outcome {
            Outcome::Rejected => return Ok(Some(End::Decided(Decision::Reject))),
            Outcome::Verdict(verdict) => verdict,
        };
        Ok(match verdict {
            Verdict::Continue => None,
            Verdict::Accept => Some(End::Decided(Decision::Accept)),
            Verdict::Drop => Some(End::Decided(Decision::Drop)),
            Verdict::Return => Some(End::Returned),
            Verdict::Goto(chain) => Some(self.walk(&chain, flight, hook, depth + 1)?),
            Verdict::Jump(chain) => match self.walk(&chain, flight, hook, depth + 1)? {
                End::Returned => None,
                decided @ End::Decided(_) => Some(decided),
            },
        })
    }
}

impl Hooks for NftRuleset {
    fn run(&self, hook: Hook, flight: &mut Flight<'_>) -> Result<Decision> {
        let of_hook = self.chains.iter().filter_map(|(name, chain)| {
            let base = chain.base.filter(|base| base.hook == hook)?;
            Some((base.priority, name, base))
        });
        let mut chains: Vec<_> = of_hook.collect();
        chains.sort_by_key(|(priority, name, _)| (*priority, (*name).clone()));
        for (_, name, base) in chains {
            if base.kind == ChainKind::Nat && !flight.asks_nat(hook) {
                continue;
            }
            let decision = match self.walk(name, flight, hook, 0)? {
                End::Decided(decision) => decision,
                End::Returned if base.policy == Some(Policy::Drop) => Decision::Drop,
                End::Returned => Decision::Accept,
            };
            if decision != Decision::Accept {
                return Ok(decision);
            }
        }
        Ok(Decision::Accept)
    }
}
