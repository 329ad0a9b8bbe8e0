//! heddle-agent: the node daemon: pods, service proxy, status.
