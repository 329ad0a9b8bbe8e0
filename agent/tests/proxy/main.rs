//! The service proxy, packet by packet: rules of both modes against what Kubernetes promises, traced and with real packets.
//!
//! | file | what |
//! | --- | --- |
//! | `world` | nodes, pods, services of every kind in every situation |
//! | `flows` | who knocks where |
//! | `oracle` | what should become of it, from the documentation |
//! | `modes` | the rules of a world in either mode |
//! | `agree` | the tracer's verdicts of both modes, and the oracle's |
//! | `affinity` | session affinity, traced |
//! | `lint` | nothing leads nowhere |
//! | `recorded` | kube-proxy's own rules, recorded |
//! | `net`, `echo` | the world in namespaces; servers and clients |
//! | `packets` | the same flows as real connections |
//! | `sctp` | the first packets of SCTP, made by hand |
//! | `traffic` | connections while endpoints change; balance, affinity, refusals |

mod affinity;
mod agree;
mod echo;
mod flows;
mod lint;
mod modes;
mod net;
mod oracle;
mod packets;
mod recorded;
mod sctp;
mod traffic;
mod world;
