//! Where leases are kept: the interface, and what can be said over any store.

mod boot;
pub mod disk;
pub mod freed;
pub mod memory;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

use self::freed::Freed;

/// Whose an address is: an interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The container's id (`CNI_CONTAINERID`).
    pub container_id: String,
    /// The interface in the container (`CNI_IFNAME`).
    pub ifname: String,
}

impl Owner {
    /// An owner; white space around the container's id does not count, as in the reference.
    pub fn new(container_id: &str, ifname: &str) -> Self {
        Self { container_id: container_id.trim().to_owned(), ifname: ifname.to_owned() }
    }
}

/// One address that is taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// The container that holds it.
    pub container_id: String,
    /// The container's interface; `None` for a lease in the old format, which names the container only.
    pub ifname: Option<String>,
}

impl Lease {
    fn is_exactly(&self, owner: &Owner) -> bool {
        self.container_id == owner.container_id && self.ifname.as_deref() == Some(&owner.ifname)
    }

    /// Whether `owner` holds this lease. A lease in the old format belongs to every interface of its
    /// container.
    pub fn belongs_to(&self, owner: &Owner) -> bool {
        self.container_id == owner.container_id
            && self.ifname.as_deref().is_none_or(|ifname| ifname == owner.ifname)
    }
}

/// What an allocation must know of a network's leases.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// The addresses that somebody holds.
    pub taken: Vec<IpAddr>,
    /// The leases of the owner that was asked for.
    pub own: Vec<Lease>,
}

/// A failed operation on a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The name of the network cannot be a directory's name.
    #[error(
        "network name {0:?} cannot name a directory of addresses: it must not be empty, \".\", \"..\" or contain \"/\""
    )]
    NetworkName(String),
    /// The file system refused an operation.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Leases of one network, held exclusively for as long as the value lives.
pub trait Store {
    /// Every lease.
    fn leases(&self) -> Result<Vec<Lease>, StoreError>;

    /// The leases of `owner`, and of all others the addresses. A store may know these without reading every lease.
    fn holdings(&self, owner: &Owner) -> Result<Holdings, StoreError> {
        let leases = self.leases()?;
        let taken = leases.iter().map(|lease| lease.address).collect();
        let own = leases.into_iter().filter(|lease| lease.belongs_to(owner)).collect();
        Ok(Holdings { taken, own })
    }

    /// The address that set number `set` handed out last; `None` if unknown.
    fn last_reserved(&self, set: usize) -> Result<Option<IpAddr>, StoreError>;

    /// Takes `address` for `owner` and remembers it as the last one of set number `set`.
    /// `false`: somebody holds it already. On an error nothing is taken.
    fn reserve(&mut self, address: IpAddr, owner: &Owner, set: usize) -> Result<bool, StoreError>;

    /// Gives `address` back; `false` if nobody held it.
    fn release(&mut self, address: IpAddr) -> Result<bool, StoreError>;

    /// The addresses that were given back lately. Some may have been handed out again.
    fn freed(&self) -> Result<Freed, StoreError>;

    /// Removes what interrupted programs, or earlier boots of the machine, left behind; returns the addresses.
    fn sweep(&mut self) -> Result<Vec<IpAddr>, StoreError> {
        Ok(Vec::new())
    }
}

/// The leases that `owner` holds.
pub fn leases_of(store: &dyn Store, owner: &Owner) -> Result<Vec<Lease>, StoreError> {
    Ok(store.holdings(owner)?.own)
}

/// Gives back every address of `owner` and returns them; that there are none is no error.
///
/// Leases in the old format, which do not name the interface, are taken for the owner's only when
/// nothing is held under its full name. A failure does not keep the others from being released; the
/// first one is returned.
pub fn release(store: &mut dyn Store, owner: &Owner) -> Result<Vec<IpAddr>, StoreError> {
    let leases = leases_of(store, owner)?;
    let mut mine: Vec<_> = leases.iter().filter(|lease| lease.is_exactly(owner)).collect();
    if mine.is_empty() {
        mine = leases.iter().collect();
    }
    let mine: Vec<_> = mine.into_iter().map(|lease| lease.address).collect();
    release_all(store, &mine)
}

/// Gives back every address whose owner is not in `valid`, and everything that nobody owns; returns
/// the addresses. A lease in the old format stays as long as its container has any valid interface.
pub fn collect_garbage(store: &mut dyn Store, valid: &[Owner]) -> Result<Vec<IpAddr>, StoreError> {
    let leases = store.leases()?;
    let stale: Vec<_> = leases
        .iter()
        .filter(|lease| !valid.iter().any(|owner| lease.belongs_to(owner)))
        .map(|lease| lease.address)
        .collect();
    let mut freed = release_all(store, &stale)?;
    freed.extend(store.sweep()?);
    Ok(freed)
}

fn release_all(store: &mut dyn Store, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, StoreError> {
    let mut freed = Vec::new();
    let mut failed = None;
    for address in addresses {
        match store.release(*address) {
            Ok(_) => freed.push(*address),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(freed), Err)
}
