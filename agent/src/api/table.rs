//! The status as a person reads it.

use super::StatusDocument;
use crate::node::ServiceStatus;
use crate::pod::status::PodStatus;

/// Columns with two spaces between; the last one is not padded.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..).map_while(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// Renders a status document.
pub fn render(document: &StatusDocument) -> String {
    let node = &document.node;
    let mut text = format!(
        "node {}, agent {} (pid {}), up {} s\n",
        node.name, node.version, node.pid, node.uptime_seconds
    );
    if let Some(proxy) = &document.proxy {
        let since = proxy.last_sync.as_deref().unwrap_or("never");
        text.push_str(&format!("proxy {}, last sync {since}\n", proxy.mode));
    }
    for problem in &node.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    if let Some(overlay) = &document.overlay {
        text.push_str(&crate::overlay::status::render(overlay, columns));
    }
    if document.overlay_alone {
        return text;
    }
    let mut pods = vec![row(["NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", "MESSAGE"])];
    pods.extend(document.pods.iter().map(pod_row));
    text.push_str(&format!("\n{}", columns(&pods)));
    let mut services =
        vec![row(["NAMESPACE", "SERVICE", "TYPE", "CLUSTER-IP", "PORTS", "ENDPOINTS"])];
    for service in &document.services {
        for port in &service.ports {
            let node_port = port.node_port.map(|number| format!(":{number}")).unwrap_or_default();
            let endpoints = if port.endpoints.is_empty() {
                "none".to_owned()
            } else {
                port.endpoints.join(",")
            };
            services.push(vec![
                service.namespace.clone(),
                service.name.clone(),
                service.kind.clone(),
                addresses(service),
                format!("{}{node_port}/{}", port.port, port.protocol),
                endpoints,
            ]);
        }
    }
    text.push_str(&format!("\n{}", columns(&services)));
    if !document.errors.is_empty() {
        text.push_str("\nMANIFESTS THAT ARE NOT RIGHT\n");
        for error in &document.errors {
            text.push_str(&format!(
                "{error}
"
            ));
        }
    }
    text
}

fn addresses(service: &ServiceStatus) -> String {
    let (one, all) = (&service.cluster_ip, &service.cluster_ips);
    if all.is_empty() { one.clone() } else { all.join(",") }
}

fn pod_row(pod: &PodStatus) -> Vec<String> {
    let ready = pod.containers.iter().filter(|container| container.state == "running").count();
    let restarts: u32 = pod.containers.iter().map(|container| container.restarts).sum();
    let status = if pod.reason.is_empty() { pod.phase.clone() } else { pod.reason.clone() };
    vec![
        pod.namespace.clone(),
        pod.name.clone(),
        format!("{ready}/{}", pod.containers.len()),
        status,
        restarts.to_string(),
        if pod.ip.is_empty() { "-".to_owned() } else { pod.ip.clone() },
        pod.message.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{PortStatus, ProxyStatus};
    use crate::pod::status::ContainerStatus;

    #[test]
    fn a_table() {
        let container =
            ContainerStatus { state: "running".into(), restarts: 2, ..ContainerStatus::default() };
        let pod = PodStatus {
            namespace: "default".into(),
            name: "web".into(),
            phase: "Running".into(),
            ip: "10.244.0.2".into(),
            containers: vec![container],
            ..PodStatus::default()
        };
        let (mode, last_sync) = ("nftables".to_owned(), Some("2026-11-21T12:00:00Z".to_owned()));
        let port = PortStatus {
            protocol: "TCP".into(),
            port: 80,
            endpoints: vec!["10.244.0.2:80".into(), "[fd00::2]:80".into()],
            ..PortStatus::default()
        };
        let service = ServiceStatus {
            namespace: "default".into(),
            name: "web".into(),
            kind: "ClusterIP".into(),
            cluster_ip: "10.96.0.9".into(),
            cluster_ips: vec!["10.96.0.9".into(), "fd00:96::9".into()],
            ports: vec![port],
        };
        let document = StatusDocument {
            proxy: Some(ProxyStatus { mode, last_sync }),
            pods: vec![pod],
            services: vec![service],
            ..StatusDocument::default()
        };
        insta::assert_snapshot!(render(&document), @r"
        node , agent  (pid 0), up 0 s
        proxy nftables, last sync 2026-11-21T12:00:00Z

        NAMESPACE  POD  READY  STATUS   RESTARTS  IP          MESSAGE
        default    web  1/1    Running  2         10.244.0.2

        NAMESPACE  SERVICE  TYPE       CLUSTER-IP            PORTS   ENDPOINTS
        default    web      ClusterIP  10.96.0.9,fd00:96::9  80/TCP  10.244.0.2:80,[fd00::2]:80
        ");
    }
}
