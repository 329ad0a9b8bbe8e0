//! What a way of writing rules must be able to do. Two are there: `iptables` and `nftables`.

use std::collections::BTreeSet;

use netns_tools::iptables::Family;

use super::model::{Changed, PortId, Ports};
use super::options::RuleOptions;

/// Which part of the desired state a sync looks at.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// All of it, compared with the kernel rather than with what was committed last.
    Full,
    /// These ports, compared with what was committed last. A backend that has committed nothing yet, or failed the last time, or
    /// sees other options than the last time makes it a full one by itself.
    Changed(&'a Changed),
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Whether everything was compared with the kernel.
    pub full: bool,
    /// Changes that were made: chains and rules and elements written or deleted. 0: all was as it should be.
    pub changes: usize,
    /// Rules (iptables), or rules and elements (nftables), that are in force of ours, by table.
    pub rules: Vec<(&'static str, usize)>,
    /// Rules that the last transaction wrote, by table.
    pub written: Vec<(&'static str, usize)>,
}

/// A sync that failed. What is in force is what was before, as a transaction is made as a whole or not at all.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// iptables
    #[error("service rules are not up to date")]
    Iptables(#[from] netns_tools::iptables::IptablesError),
    /// nftables
    #[error("service rules are not up to date")]
    Nftables(#[from] netns_tools::nftables::NftError),
    /// The host is not as this backend needs it.
    #[error("{0}")]
    Host(String),
}

/// The rules of one family in one place of the kernel. Blocking; used by one thread at a time.
pub trait Backend: Send {
    /// The family.
    fn family(&self) -> Family;

    /// Makes the kernel hold what `ports` and `options` ask for, in one transaction. After an error the next call is a full one.
    fn sync(
        &mut self,
        ports: &Ports,
        options: &RuleOptions,
        scope: Scope<'_>,
    ) -> Result<SyncReport, BackendError>;

    /// The transaction that the next full [`Backend::sync`] would make, in the words of the backend's own tools
    /// (`iptables-restore`, `nft -f`). Changes nothing.
    fn plan(&mut self, ports: &Ports, options: &RuleOptions) -> Result<String, BackendError>;

    /// What should be there and what is there for some ports, or for all, as text in the words of the backend's tools.
    fn compare(
        &mut self,
        ports: &Ports,
        options: &RuleOptions,
        only: &dyn Fn(&PortId) -> bool,
    ) -> Result<Comparison, BackendError>;

    /// Whether what was committed is still there, at the cost of a look (canaries, the table's handle or generation), not of a
    /// listing. `false`: someone took it away, sync in full now.
    fn is_intact(&mut self) -> Result<bool, BackendError>;

    /// Whether the kernel tells of every change that others make ([`netns_tools::nftables::Monitor`]). Otherwise
    /// [`Backend::is_intact`] is asked about once a second.
    fn is_notified(&self) -> bool {
        false
    }

    /// What of this host may keep rules that are in force from deciding alone, each in words with the remedy. Asked after each full
    /// sync, so it must cost little.
    fn doubts(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Removes everything of ours and nothing else.
    fn cleanup(&mut self) -> Result<(), BackendError>;
}

/// Desired and actual state side by side, as sorted lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What should be there.
    pub desired: BTreeSet<String>,
    /// What is there.
    pub actual: BTreeSet<String>,
}
