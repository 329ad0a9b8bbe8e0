//! IP address management: ranges, allocation and the on-disk store.
