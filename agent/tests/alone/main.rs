//! Each part of the agent as an operator runs it without the others: a program, its configuration, an API server and real traffic.

mod overlay;
mod program;
mod proxy;
