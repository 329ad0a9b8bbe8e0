//! Rules of another mode, or of another proxy, that go once ours are in force: until then they serve.

use crate::proxy::backend::BackendError;

/// Rules that are to go.
pub trait Predecessor: Send {
    /// Whose they are, for messages.
    fn name(&self) -> &str;

    /// Removes them; that there are none is a success. Blocking.
    fn remove(&mut self) -> Result<(), BackendError>;
}
