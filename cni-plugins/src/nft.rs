//! What the plugins that make rules of nftables share.

use cni::Error;
use data_encoding::HEXLOWER;
use netns_tools::nftables::{NftError, Nftables};
use sha2::{Digest, Sha512};

use crate::code;

/// As long as the reference's.
const HASH_LEN: usize = 16;

/// A socket. `None`: this kernel has no nftables.
pub fn open() -> Result<Option<Nftables>, Error> {
    match Nftables::open().and_then(|mut nft| nft.generation().map(|_| nft)) {
        Ok(nft) => Ok(Some(nft)),
        Err(error) if error.is_unsupported() => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// Whether rules can be made here.
pub fn is_usable() -> bool {
    matches!(open(), Ok(Some(_)))
}

/// What the kernel answered.
pub fn failed(error: &NftError) -> Error {
    Error::from_source(code::RULES, error)
}

/// What stands for a name in comments and names of chains, which are short.
pub fn hash(text: &str) -> String {
    let mut hash = HEXLOWER.encode(&Sha512::digest(text));
    hash.truncate(HASH_LEN);
    hash
}
