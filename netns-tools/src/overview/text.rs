//! Drawing an overview as text.

use std::fmt::Write as _;

use super::survey::Entry;
use super::{Far, LinkView, Namespace, Tunnel};

/// Draws each namespace with its links, the ports of a bridge below it:
///
/// ```text
/// host  net:[4026531840]
///   lo        loopback  up    mtu 65536  127.0.0.1/8
///   cni0      bridge    up    mtu 1500   10.244.0.1/24
///   └─ veth1  veth      up    mtu 1500   <-> eth0 @ web
///   heddle.1  vxlan     up    mtu 1450   10.244.0.0/32 vni 1 port 8472 from 192.0.2.1 to 3 nodes over eth0
/// ```
///
/// States: `up`; `down`; `waits` for a link that is set up but passes no traffic, because its other end is down or no
/// port of the bridge is up.
pub fn namespaces(namespaces: &[Namespace]) -> String {
    let drawn: Vec<String> = namespaces.iter().map(namespace).collect();
    drawn.join("\n")
}

fn namespace(namespace: &Namespace) -> String {
    let here = if namespace.current { "  (here)" } else { "" };
    let text = format!("{}  net:[{}]{here}\n", namespace.name, namespace.id);
    let rows: Vec<_> = ordered(&namespace.links)
        .into_iter()
        .map(|(branch, link)| row(&namespace.name, branch, link))
        .collect();
    text + &table(&rows, "  ")
}

/// The links by index, ports below their bridge and with a branch before them.
fn ordered(links: &[LinkView]) -> Vec<(&'static str, &LinkView)> {
    let mut ordered = Vec::new();
    for link in links.iter().filter(|link| link.master.is_none()) {
        ordered.push(("", link));
        let mut ports =
            links.iter().filter(|port| port.master.as_deref() == Some(&link.name)).peekable();
        while let Some(port) = ports.next() {
            ordered.push((if ports.peek().is_some() { "├─ " } else { "└─ " }, port));
        }
    }
    // Whose master is itself a port (a bond in a bridge) is not reached above.
    for link in links {
        if !ordered.iter().any(|(_, seen)| seen.index == link.index) {
            ordered.push(("", link));
        }
    }
    ordered
}

fn row(namespace: &str, branch: &str, link: &LinkView) -> Vec<String> {
    let mut last = link.addresses.clone();
    last.extend(link.peer.as_ref().map(|far| format!("<-> {}", place(namespace, far))));
    last.extend(link.vxlan.as_ref().map(tunnel));
    last.extend(link.lower.as_ref().map(|far| format!("over {}", place(namespace, far))));
    vec![
        format!("{branch}{}", link.name),
        link.kind.clone().unwrap_or_else(|| "device".into()),
        state(link).into(),
        format!("mtu {}", link.mtu),
        last.join(" "),
    ]
}

/// For example `vni 1 port 8472 from 192.0.2.1 to 3 nodes`.
fn tunnel(tunnel: &Tunnel) -> String {
    let vni = tunnel.vni.map_or("external".into(), |vni| format!("vni {vni}"));
    let from = tunnel.local.map_or(String::new(), |local| format!(" from {local}"));
    let nodes = if tunnel.remotes == 1 { "node" } else { "nodes" };
    format!("{vni} port {}{from} to {} {nodes}", tunnel.port, tunnel.remotes)
}

fn state(link: &LinkView) -> &'static str {
    use crate::link::OperState::{Unknown, Up};
    match (link.up, link.oper_state) {
        (false, _) => "down",
        (true, Up | Unknown) => "up",
        (true, _) => "waits",
    }
}

fn place(own: &str, far: &Far) -> String {
    let name = far.name.clone().unwrap_or_else(|| format!("link {}", far.index));
    match far.namespace.as_deref() {
        Some(namespace) if namespace == own => name,
        Some(namespace) => format!("{name} @ {namespace}"),
        None => format!("{name} @ a namespace that is neither named nor a process's"),
    }
}

/// Draws a list of namespaces with a heading.
pub fn entries(entries: &[Entry]) -> String {
    let mut rows: Vec<Vec<String>> =
        vec![["NAME", "ID", "LINKS", "PROCESSES"].map(Into::into).into()];
    rows.extend(entries.iter().map(|entry| {
        vec![
            entry.name.clone(),
            entry.id.to_string(),
            entry.links.to_string(),
            entry.processes.len().to_string(),
        ]
    }));
    table(&rows, "")
}

/// Aligns columns; lines have no blanks at their ends.
fn table(rows: &[Vec<String>], indent: &str) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..).map_while(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(indent);
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
