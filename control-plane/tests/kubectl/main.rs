//! A day with the real kubectl 1.32 against the real server, on each store. What a chapter types, sees and gets as exit code is one
//! transcript, kept in `snapshots/`; both stores must give the same one.
//!
//! kubectl is the program that `HEDDLE_KUBECTL` names, else `kubectl` on PATH; another version fails the tests. After a wanted change:
//! `INSTA_UPDATE=always cargo nextest run -p heddle-server --test kubectl`, then read the difference.

mod chapters;
mod day;
mod etcd;
mod pair;
mod process;
mod server;
mod transcript;
