//! The Container Network Interface protocol, both sides: what a plugin speaks, and how a runtime calls plugins.
