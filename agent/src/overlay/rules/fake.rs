//! Rules in memory, for tests of who calls them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netns_tools::iptables::IptablesError;

use super::input;
use super::{NodeRules, Result, RuleError, RuleInput, RuleReport};

/// Keeps what it was told, and refuses what the kernel's would.
#[derive(Debug, Default)]
pub struct FakeNodeRules {
    /// What is in force; `None`: nothing.
    pub input: Option<RuleInput>,
    /// How often something was written.
    pub commits: usize,
    /// Somebody has changed rules since.
    pub broken: bool,
    /// What the next sync tells.
    pub problems: Vec<String>,
    /// The next sync writes all but this variant of iptables.
    pub refused_variant: Option<&'static str>,
    /// The next sync or update fails.
    pub fail_next: bool,
    /// What [`NodeRules::dropped`] tells.
    pub dropped: u64,
}

impl FakeNodeRules {
    /// The addresses that may send through the tunnel.
    pub fn senders(&self) -> BTreeSet<IpAddr> {
        self.input.as_ref().map(RuleInput::senders).unwrap_or_default()
    }

    fn fail(&mut self) -> Result<()> {
        if std::mem::take(&mut self.fail_next) {
            self.input = None;
            let source = netns_tools::nftables::NftError::Changed;
            return Err(RuleError::Table(source));
        }
        Ok(())
    }
}

impl NodeRules for FakeNodeRules {
    fn sync(&mut self, input: &RuleInput) -> Result<RuleReport> {
        input.check()?;
        self.fail()?;
        let mut input = input.clone();
        if input.partial {
            input.nodes.extend(self.senders());
        }
        let writes = self.broken || self.input.as_ref() != Some(&input);
        self.commits += usize::from(writes);
        (self.input, self.broken) = (Some(input.clone()), false);
        let mut problems = input.refused_nodes();
        problems.extend(self.problems.iter().cloned());
        let refused = self.refused_variant.take().map(|variant| RuleError::Accepts {
            variant: variant.to_owned(),
            source: IptablesError::Failed {
                program: variant.to_owned(),
                message: "the fake refuses it".to_owned(),
                offending: None,
            },
        });
        self.broken = refused.is_some();
        let failed = refused.into_iter().collect();
        Ok(RuleReport { nft_commits: usize::from(writes), iptables_commits: 0, problems, failed })
    }

    fn update_nodes(&mut self, added: &[IpAddr], removed: &[IpAddr]) -> Result<()> {
        self.fail()?;
        let before = self.senders();
        let Some(input) = &mut self.input else { return Err(RuleError::NotSynced) };
        for address in removed.iter().copied().filter_map(input::sender) {
            input.nodes.retain(|node| input::sender(*node) != Some(address));
        }
        input.nodes.extend(added.iter().copied().filter_map(input::sender));
        self.commits += usize::from(before != self.senders());
        Ok(())
    }

    fn is_intact(&mut self) -> Result<bool> {
        Ok(self.input.is_some() && !self.broken)
    }

    fn dropped(&mut self) -> Result<u64> {
        Ok(self.dropped)
    }

    fn cleanup(&mut self) -> Result<Vec<String>> {
        let there = self.input.take().is_some();
        Ok(there.then(|| "table inet heddle-overlay".to_owned()).into_iter().collect())
    }
}
