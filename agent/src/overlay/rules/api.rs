//! What the controller calls, as a trait: its own tests need no kernel.

use std::net::IpAddr;

use netns_tools::iptables::IptablesError;
use netns_tools::nftables::NftError;

use super::input::RuleInput;

/// Rules that are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Of this no rule can be made. Nothing was changed.
    #[error("{field} of the overlay's rules is `{value}`: {reason}")]
    Input {
        /// Which part.
        field: &'static str,
        /// What it is.
        value: String,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// nf_tables refused. What was in force is in force.
    #[error(
        "masquerading and the guard of the tunnel (table inet heddle-overlay) are not up to date"
    )]
    Table(#[source] NftError),
    /// iptables refused. The nftables table is up to date; other variants and families of iptables are too, as far as they work.
    #[error("the chains HEDDLE-FORWARD and HEDDLE-INPUT of {variant} are not up to date")]
    Accepts {
        /// Which iptables.
        variant: String,
        /// Why.
        source: IptablesError,
    },
    /// A change of the nodes came before anything was synchronised.
    #[error("the set of nodes cannot be changed before the rules were written; synchronise first")]
    NotSynced,
}

impl From<NftError> for RuleError {
    fn from(error: NftError) -> Self {
        Self::Table(error)
    }
}

/// What a sync did.
#[derive(Debug, Default)]
pub struct RuleReport {
    /// Transactions of nftables: 0 or 1.
    pub nft_commits: usize,
    /// Runs of iptables-restore: at most one for each family and variant in use.
    pub iptables_commits: usize,
    /// What is not as pods' traffic needs it and is not ours to change, or could not be changed; each in words with the remedy.
    pub problems: Vec<String>,
    /// Chains of iptables that are not as they should be. All else is; another sync should follow a while later.
    pub failed: Vec<RuleError>,
}

/// The rules of this node. Blocking, and of the network namespace of the calling thread, which must be the same in all calls.
pub trait NodeRules: Send {
    /// Makes the kernel hold what the input asks for. Compares with what is there, and writes only what differs: at most one transaction
    /// of nftables, then at most one of iptables for each family and variant. The guard comes first: nothing is accepted that it does not
    /// watch yet. Where there may be more nodes, addresses that are in the set stay ([`RuleInput::partial`]). An error: masquerading and the guard are not in force, and iptables is as it was.
    fn sync(&mut self, input: &RuleInput) -> Result<RuleReport, RuleError>;

    /// Nodes that came and went since the last [`Self::sync`], in one transaction. What is known already costs nothing. An address that both
    /// came and went is there. If the set is not what it was, all is compared as by [`Self::sync`].
    fn update_nodes(&mut self, added: &[IpAddr], removed: &[IpAddr]) -> Result<(), RuleError>;

    /// Whether all is as it was made, as far as that can be seen without starting a program: for every notification of nf_tables, and now
    /// and then for what tells nothing (iptables-legacy, kernel parameters). False before the first sync.
    fn is_intact(&mut self) -> Result<bool, RuleError>;

    /// How many datagrams to the tunnel's port were dropped as they came from no node, since the rules of the guard were written. 0: none, or
    /// there is no guard.
    fn dropped(&mut self) -> Result<u64, RuleError>;

    /// Removes everything of ours but kernel parameters; answers what was there, in words.
    fn cleanup(&mut self) -> Result<Vec<String>, RuleError>;
}
