//! What the server is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::ServerError;
use crate::admission::Plugin;
use crate::allocate::Ranges;
use crate::auth::audit::{Counts, Log, Mode, Policy, Rotation, Writer};
use crate::http::audit::Audit;
use crate::store::etcd::{EtcdConfig, EtcdTls};

/// What the server is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Where data, certificates and the administrator's kubeconfig are kept.
    #[arg(long, default_value = "/var/lib/heddle/server")]
    pub data_dir: PathBuf,
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port to listen on.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// The address at which nodes and pods reach this server: the endpoint of the service `kubernetes`. Left out: the bind address,
    /// or else the address of the interface that leads out.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// A further DNS name or address that the serving certificate is for; may be given several times.
    #[arg(long = "tls-san")]
    pub names: Vec<String>,
    /// From which networks services get their addresses: one, or one of each family, the family of the first being the default.
    #[arg(long, default_value = "10.96.0.0/12", value_delimiter = ',')]
    pub service_cidr: Vec<IpNetwork>,
    /// From which networks pods get theirs: checked not to overlap with those of services.
    #[arg(long, default_value = "10.244.0.0/16", value_delimiter = ',')]
    pub pod_cidr: Vec<IpNetwork>,
    /// The ports of nodes that services get.
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: RangeInclusive<u16>,
    /// Where objects are kept.
    #[command(flatten)]
    pub storage: Storage,
    /// A file of tokens: `token,user,uid,"group,group"` in each line.
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// Which requests are noted, and how much of them: an `audit.k8s.io/v1 Policy` (YAML).
    #[arg(long, requires = "audit_log_path")]
    pub audit_policy_file: Option<PathBuf>,
    /// The file they are noted in, a line of JSON each; SIGHUP begins it anew after another program moved it away.
    #[arg(long, requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// At how many megabytes the file makes room for a new one; 0: never.
    #[arg(long, default_value_t = 100)]
    pub audit_log_maxsize: u64,
    /// How many full files are kept.
    #[arg(long, default_value_t = 10)]
    pub audit_log_maxbackup: usize,
    /// Whether a request waits until it is noted: `batch` never waits and loses what finds no room; `blocking-strict` refuses what cannot
    /// be noted.
    #[arg(long, value_enum, default_value_t = Mode::Blocking)]
    pub audit_log_mode: Mode,
    /// Let requests without certificate or token in as `system:anonymous`, who may do what roles say.
    #[arg(long)]
    pub anonymous_auth: bool,
    /// Admission plugins that are not asked.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<Plugin>,
    /// Serve the API only: another server, or kube-controller-manager, runs the controllers.
    #[arg(long)]
    pub no_controllers: bool,
    /// Without TLS and open to everybody who reaches it: for tests, on a loopback address only.
    #[arg(long)]
    pub insecure_loopback: bool,
}

/// Where objects are kept.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Storage {
    /// Where objects are kept: a file in the data directory unless `etcd://host:port,host:port` is named.
    #[arg(long)]
    pub store: Option<String>,
    /// The authority (PEM file) of the etcd members' certificates; speaks TLS with them.
    #[arg(long, requires = "store")]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate (PEM file) to show to etcd.
    #[arg(long, requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    /// Its private key.
    #[arg(long, requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
}

impl Storage {
    /// Where etcd is; `None` for the file.
    pub fn etcd(&self) -> Result<Option<EtcdConfig>, ServerError> {
        let Some(store) = &self.store else { return Ok(None) };
        let members = crate::store::etcd::parse(store)
            .map_err(|error| ServerError::Config(format!("--store: {error}")))?;
        let mut config = EtcdConfig::new(members);
        if self.etcd_cafile.is_some() || self.etcd_certfile.is_some() {
            config.tls = Some(EtcdTls {
                ca: self.etcd_cafile.clone(),
                identity: self.etcd_certfile.clone().zip(self.etcd_keyfile.clone()),
            });
        }
        Ok(Some(config))
    }
}

impl Config {
    /// What holds when only the directory is named.
    pub fn in_directory(data_dir: PathBuf) -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            config: Config,
        }
        let defaults = <Defaults as clap::Parser>::parse_from(["heddle-server"]);
        Self { data_dir, ..defaults.config }
    }

    /// The ranges of services, checked.
    pub fn ranges(&self) -> Result<Ranges, ServerError> {
        let ranges = Ranges {
            services: self.service_cidr.clone(),
            node_ports: self.service_node_port_range.clone(),
        };
        ranges
            .check(&self.pod_cidr)
            .map_err(|error| ServerError::Config(format!("--service-cidr: {error}")))?;
        Ok(ranges)
    }

    /// Refuses settings that must not be together.
    pub fn check(&self) -> Result<(), ServerError> {
        if self.insecure_loopback && !self.bind_address.is_loopback() {
            let address = self.bind_address;
            return Err(ServerError::Config(format!(
                "--insecure-loopback lets everybody in who reaches the server, so it needs a loopback address and not {address}: add --bind-address 127.0.0.1"
            )));
        }
        self.ranges().map(|_| ())
    }

    /// What is noted of requests, and where; `None` when nothing is.
    pub fn audit(&self, counts: Counts) -> Result<Option<Audit>, ServerError> {
        let (Some(policy), Some(path)) = (&self.audit_policy_file, &self.audit_log_path) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(policy)
            .map_err(|source| ServerError::File { path: policy.clone(), source })?;
        let policy = Policy::parse(&text).map_err(|error| {
            ServerError::Config(format!("--audit-policy-file {}: {error}", policy.display()))
        })?;
        let rotation = Rotation {
            bytes: self.audit_log_maxsize.saturating_mul(1 << 20),
            files: self.audit_log_maxbackup,
        };
        let log = Log::open(path, rotation)
            .map_err(|error| ServerError::Config(format!("--audit-log-path: {error}")))?;
        let log = Writer::start(log, self.audit_log_mode, counts).map_err(|error| {
            ServerError::Config(format!("no thread for the audit log: {error}"))
        })?;
        Ok(Some(Audit { policy, log }))
    }

    /// Where others reach this server.
    pub fn advertised(&self) -> IpAddr {
        let fallback =
            if self.bind_address.is_unspecified() { way_out() } else { Some(self.bind_address) };
        self.advertise_address.or(fallback).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Where this machine itself reaches it, as a URL.
    pub fn own_url(&self) -> String {
        let address = match self.bind_address {
            address if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            address => address,
        };
        format!("https://{}", SocketAddr::new(address, self.secure_port))
    }
}

/// The address of the interface by which the world is reached: nothing is sent, the kernel is only asked for the way.
fn way_out() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // an address for documentation (RFC 5737): no machine has it
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').ok_or("a range is written as 30000-32767")?;
    let port = |text: &str| {
        text.trim().parse::<u16>().map_err(|error| format!("{text:?} is no port: {error}"))
    };
    let (first, last) = (port(first)?, port(last)?);
    if first == 0 || first > last {
        return Err(format!("the range {first}-{last} is empty, or begins with 0"));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_command_line() {
        let config = Config::in_directory("/tmp/x".into());
        assert_eq!(config.secure_port, 6443);
        assert_eq!(config.own_url(), "https://127.0.0.1:6443");
        assert!(config.check().is_ok());
        assert!(config.storage.etcd().expect("no store is named").is_none());
    }

    #[test]
    fn what_must_not_be_is_refused_by_name() {
        let mut config = Config::in_directory("/tmp/x".into());
        config.insecure_loopback = true;
        assert!(
            config
                .check()
                .expect_err("open to all")
                .to_string()
                .contains("--bind-address 127.0.0.1")
        );
        let mut config = Config::in_directory("/tmp/x".into());
        config.pod_cidr = vec!["10.100.0.0/16".parse().expect("a network")];
        assert!(
            config.check().expect_err("they overlap").to_string().starts_with("--service-cidr: ")
        );
        let mut config = Config::in_directory("/tmp/x".into());
        config.storage.store = Some("mysql://x".to_owned());
        assert!(
            config.storage.etcd().expect_err("no such store").to_string().starts_with("--store: ")
        );
        assert_eq!(port_range("30000-32767"), Ok(30000..=32767));
        assert!(
            port_range("5").is_err() && port_range("9-8").is_err() && port_range("0-8").is_err()
        );
    }
}
