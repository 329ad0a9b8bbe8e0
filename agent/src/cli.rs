//! The command line. Every key of the configuration is also a flag; both come from one table.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use conf::{AgentConfig, ConfigError, KEYS, Key, Kind, Layer, Reader};

use crate::{api, daemon, overlay, proxy};

/// Something failed.
const FAILURE: u8 = 1;
/// The command line, the configuration or a manifest is not right.
const USAGE: u8 = 2;
/// Read if it is there and no other file was named.
const DEFAULT_CONFIG: &str = "/etc/heddle/agent.toml";

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 the command line, the configuration or a manifest is not right.";

fn command() -> Command {
    let with_keys = |command: Command, reader| {
        let shown = |key: &Key| key.is_read_by(reader);
        let flag = |command: Command, key| command.arg(flag(key).hide(!shown(key)));
        KEYS.iter().fold(command.arg(config_arg()), flag)
    };
    Command::new("heddle-agent")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs pods through containerd and writes rules for services, from Kubernetes manifests on disk")
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_keys(Command::new("run").about("Run the agent until SIGTERM; pods and rules stay"), Reader::Run).after_help(
            "Flags win over the configuration file, which wins over the defaults. SIGHUP reads the manifests at once.",
        ))
        .subcommand(with_keys(Command::new("check-config").about("Check configuration and manifests, and change nothing"), Reader::Run))
        .subcommand(
            Command::new("status")
                .about("Show pods, addresses, restarts, reasons, services and mistakes in manifests")
                .arg(Arg::new("socket").long("socket").value_name("PATH").default_value(default_of("paths.socket")).help("socket of the agent"))
                .arg(Arg::new("output").long("output").short('o').value_parser(["table", "json"]).default_value("table").help("form of the output")),
        )
        .subcommand(proxy::command::command())
        .subcommand(with_keys(overlay::command::command(), Reader::Overlay))
        .subcommand(Command::new("cleanup").about("Remove the service rules of a proxy from this host; pods stay"))
}

fn default_of(name: &str) -> &'static str {
    KEYS.iter().find(|key| key.name == name).map_or("", |key| key.default)
}

fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!("configuration file (default: {DEFAULT_CONFIG}, if it is there)"))
}

fn flag(key: &Key) -> Arg {
    let default =
        if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
    let arg = Arg::new(key.name)
        .long(key.flag())
        .value_name("VALUE")
        .help(format!("{}{default}", key.help));
    if key.kind == Kind::Paths { arg.action(ArgAction::Append).value_delimiter(':') } else { arg }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    crate::memory::economise();
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            error.print().ok();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match matches.subcommand() {
        Some(("run", matches)) => {
            with_config(matches, Reader::Run, |config| agent(daemon::run(config)))
        }
        Some(("cleanup", _)) => agent(daemon::cleanup()),
        Some(("check-config", matches)) => {
            with_config(matches, Reader::Run, |config| agent(check_manifests(&config)))
        }
        Some(("status", matches)) => status(matches),
        Some(("proxy", matches)) => ended(
            proxy::command::run(matches, &host_name()),
            proxy::command::CommandError::is_usage,
        ),
        Some(("overlay", matches)) => with_config(matches, Reader::Overlay, |config| {
            ended(overlay::command::run(matches, &config), |_| false)
        }),
        _ => ExitCode::from(USAGE),
    }
}

/// Loads the configuration of a program, of the flags that it reads.
fn with_config(
    matches: &ArgMatches,
    reader: Reader,
    run: impl FnOnce(AgentConfig) -> ExitCode,
) -> ExitCode {
    load(matches, reader).map_or_else(|error| complain(USAGE, &error), run)
}

/// The end of the agent itself.
fn agent(done: Result<(), daemon::DaemonError>) -> ExitCode {
    ended(done, |error| matches!(error, daemon::DaemonError::Manifests(_)))
}

/// `is_usage`: whether it is the command line or a file that is not right.
fn ended<E: std::error::Error + 'static>(
    done: Result<(), E>,
    is_usage: impl FnOnce(&E) -> bool,
) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(if is_usage(&error) { USAGE } else { FAILURE }, &error),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_lowercase()
}

fn complain(code: u8, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("heddle-agent: {}", netns_tools::cause::one_line(error));
    ExitCode::from(code)
}

fn load(matches: &ArgMatches, reader: Reader) -> Result<AgentConfig, ConfigError> {
    let mut layers = vec![Layer::defaults(&host_name())];
    match matches.get_one::<PathBuf>("config") {
        Some(path) => layers.push(Layer::file(path)?),
        None if Path::new(DEFAULT_CONFIG).exists() => {
            layers.push(Layer::file(Path::new(DEFAULT_CONFIG))?);
        }
        None => {}
    }
    let given = KEYS.iter().filter_map(|key| {
        let values: Vec<String> = matches.get_many::<String>(key.name)?.cloned().collect();
        Some((key.name, values))
    });
    layers.push(Layer::flags(reader, given));
    AgentConfig::from_layers(layers)
}

fn check_manifests(config: &AgentConfig) -> Result<(), daemon::DaemonError> {
    let manifests = &config.paths.manifests;
    let read = crate::source::Directory::new(manifests, &config.node_name).read();
    let errors = match &read {
        Ok(objects) => objects.errors.clone(),
        Err(error) => vec![error.clone()],
    };
    if errors.is_empty() {
        let objects = read.unwrap_or_default();
        let (pods, services) = (objects.pods.len(), objects.services.len());
        println!("{}: {pods} pods, {services} services; all is right", manifests.display());
        return Ok(());
    }
    Err(daemon::DaemonError::Manifests(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    ))
}

fn status(matches: &ArgMatches) -> ExitCode {
    let socket = matches.get_one::<String>("socket").map_or("", String::as_str);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let fetched = match runtime {
        Ok(runtime) => runtime.block_on(api::fetch_status(Path::new(socket))),
        Err(error) => return complain(FAILURE, &error),
    };
    let document = match fetched {
        Ok(document) => document,
        Err(error) => return complain(FAILURE, &error),
    };
    let text = match matches.get_one::<String>("output").map(String::as_str) {
        Some("json") => serde_json::to_string_pretty(&document).unwrap_or_default() + "\n",
        _ => api::render(&document),
    };
    // a reader that has seen enough is not an error
    std::io::stdout().write_all(text.as_bytes()).ok();
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_has_every_key() {
        command().debug_assert();
        let args = [
            "heddle-agent",
            "run",
            "--node-name",
            "n",
            "--cni-bin-dirs",
            "/a:/b",
            "--log-level",
            "loud",
        ];
        let matches = command().try_get_matches_from(args).unwrap();
        let error =
            load(matches.subcommand_matches("run").unwrap(), Reader::Run).unwrap_err().to_string();
        assert_eq!(
            error,
            "--log-level: log.level: \"loud\" is not one of error, warn, info, debug, trace"
        );
    }
    #[test]
    fn the_help_of_the_overlay_has_its_own_keys_and_others_are_refused_by_name() {
        let mut all = command();
        let help = |all: &mut Command, name: &str| {
            all.find_subcommand_mut(name).unwrap().render_long_help().to_string()
        };
        let overlay = help(&mut all, "overlay");
        for flag in ["--node-name", "--paths-state", "--network-pod-cidr", "--overlay-socket"] {
            assert!(overlay.contains(flag), "{flag}: {overlay}");
        }
        for flag in ["--cni-", "--containerd-", "--proxy-", "--health-", "--overlay-enabled"] {
            assert!(!overlay.contains(flag), "{flag}: {overlay}");
        }
        assert!(help(&mut all, "run").contains("--cni-bin-dirs"));
        assert!(!help(&mut all, "cleanup").contains("--paths"));
        let args = ["heddle-agent", "overlay", "--paths-logs=/x", "--overlay-vni=0"];
        let matches = command().try_get_matches_from(args).unwrap();
        let matches = matches.subcommand_matches("overlay").unwrap();
        let error = load(matches, Reader::Overlay).unwrap_err().to_string();
        assert!(
            error.contains("--paths-logs: heddle-agent overlay has no use for paths.logs")
                && error.contains("--overlay-vni"),
            "{error}"
        );
    }
}
