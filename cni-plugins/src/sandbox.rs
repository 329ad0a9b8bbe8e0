//! The container's network namespace, as a plugin is told of it.

use std::path::Path;

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use netns_tools::{NetNs, NetnsError};

use crate::code;

/// What DEL finds where the container's namespace should be.
pub enum Sandbox {
    /// It is there.
    Present(NetNs),
    /// It is gone, or the file that held it is a namespace no more: the kernel has removed everything in it.
    Gone,
}

/// Opens the namespace for ADD or CHECK; it must exist and must not be the plugin's own.
pub fn open(call: &Call<'_>) -> Result<NetNs, Error> {
    let path = call.netns.as_deref().ok_or_else(|| {
        Error::new(ErrorCode::InvalidEnvironment, "required env variables [CNI_NETNS] missing")
    })?;
    let ns = NetNs::open(path).map_err(|error| open_error(path, &error))?;
    refuse_own(call, &ns)?;
    Ok(ns)
}

/// Looks for the namespace for DEL. Only one that is there, but cannot be used, is an error.
pub fn find(call: &Call<'_>) -> Result<Sandbox, Error> {
    let Some(path) = call.netns.as_deref() else { return Ok(Sandbox::Gone) };
    match NetNs::open(path) {
        Ok(ns) => refuse_own(call, &ns).map(|()| Sandbox::Present(ns)),
        Err(error) if is_gone(&error) => Ok(Sandbox::Gone),
        Err(error) => Err(open_error(path, &error)),
    }
}

/// A plugin that works in the host's own namespace would take the host's interfaces for the container's.
/// The reference compares only after the work; we do not start it.
fn refuse_own(call: &Call<'_>, ns: &NetNs) -> Result<(), Error> {
    let own = ns.is_current().map_err(|e| Error::from_source(ErrorCode::Io, &e))?;
    if !own || call.netns_override {
        return Ok(());
    }
    let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
    let details = format!(
        "{} is the network namespace that the plugin runs in; nothing was done in it. Give the container's, or set CNI_NETNS_OVERRIDE=1 if this is meant",
        ns.path().display()
    );
    Err(Error::new(code::INVALID_NETNS, msg).with_details(details))
}

fn is_gone(error: &NetnsError) -> bool {
    error.is_not_found() || matches!(error, NetnsError::NotANamespace { .. })
}

fn open_error(path: &Path, error: &NetnsError) -> Error {
    let mut details = Error::from_source(code::INVALID_NETNS, error);
    details.details = if details.details.is_empty() {
        details.msg
    } else {
        format!("{}: {}", details.msg, details.details)
    };
    let msg = format!("failed to open netns {:?}", path.display().to_string());
    Error::new(code::INVALID_NETNS, msg).with_details(details.details)
}
