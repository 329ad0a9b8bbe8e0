//! Network namespaces, links, addresses, routes, sysctls and iptables: the only crate that touches the kernel's network.
