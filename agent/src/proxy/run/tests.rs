//! The loop with backends that have no kernel, in time that the test passes.
