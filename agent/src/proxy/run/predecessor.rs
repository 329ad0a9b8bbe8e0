//! Rules of another mode, or of another proxy, that go once ours are in force: until then they serve.

use crate::proxy::backend::{Backend, BackendError};

/// Rules that are to go.
pub trait Predecessor: Send {
    /// Whose they are, for messages.
    fn name(&self) -> &str;

    /// Removes them; that there are none is a success. Blocking.
    fn remove(&mut self) -> Result<(), BackendError>;
}

/// The rules of our other mode.
pub struct OtherMode {
    name: &'static str,
    backend: Box<dyn Backend>,
}

impl OtherMode {
    /// `name`: as in "service rules of nftables mode".
    pub fn new(name: &'static str, backend: Box<dyn Backend>) -> Self {
        Self { name, backend }
    }
}

impl Predecessor for OtherMode {
    fn name(&self) -> &str {
        self.name
    }

    fn remove(&mut self) -> Result<(), BackendError> {
        self.backend.cleanup()
    }
}
