//! A kernel for tests: takes a transaction whole or not at all, and refuses what nf_tables refuses.
