//! The error codes of our own, from 101: the specification leaves them to plugins, and 100 is [`cni::ErrorCode::GENERIC`].

use cni::ErrorCode;

/// The network namespace is missing or not to be used: the reference's code, which the specification does not list.
pub const INVALID_NETNS: ErrorCode = ErrorCode::Plugin(8);
/// Every address of a range set is taken.
pub const EXHAUSTED: ErrorCode = ErrorCode::Plugin(101);
/// A requested address cannot be had.
pub const ADDRESS_REFUSED: ErrorCode = ErrorCode::Plugin(102);
/// The attachment has an address already.
pub const DUPLICATE: ErrorCode = ErrorCode::Plugin(103);
/// CHECK: the attachment has no address.
pub const NO_LEASE: ErrorCode = ErrorCode::Plugin(104);
/// CHECK: the kernel's state is not what ADD left.
pub const DRIFT: ErrorCode = ErrorCode::Plugin(110);
/// A name or an address that is needed belongs to something else.
pub const CONFLICT: ErrorCode = ErrorCode::Plugin(111);
/// The kernel refused an operation.
pub const KERNEL: ErrorCode = ErrorCode::Plugin(112);
/// Packet filter rules could not be read or committed.
pub const RULES: ErrorCode = ErrorCode::Plugin(113);
/// The device that a configuration names is not on the host.
pub const NO_DEVICE: ErrorCode = ErrorCode::Plugin(114);
