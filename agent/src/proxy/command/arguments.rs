//! The command line of `heddle-agent proxy`. The flags of the configuration come from its table of fields.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::proxy::config::{FIELDS, Field, Given, Kind, Use};

const AFTER: &str = "Flags have kube-proxy's names and defaults. A flag that is given wins over --config; kube-proxy ignores most of \
                     them beside --config. SIGTERM ends the proxy; the rules stay.\n\
                     Exit codes: 0 done; 1 failed; 2 the command line or the configuration is not right.";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    Serve,
    DryRun,
    Rules { service: Option<String> },
    Cleanup,
    Prepare,
    WriteConfig(PathBuf),
}

/// The command line.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub task: Task,
    /// What the configuration is made from.
    pub given: Given,
    /// A folder of manifests instead of an API server.
    pub static_dir: Option<PathBuf>,
    /// Whether what is kube-proxy's alone goes, too.
    pub take_over: bool,
}

/// The subcommand.
pub fn command() -> Command {
    let own = [
        path("config", "file of kind KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)"),
        text("master", "URL of the API server, whatever the kubeconfig says"),
        path(
            "static-dir",
            "folder of Service, EndpointSlice and Node manifests, instead of an API server",
        ),
        switch(
            "take-over",
            "once our rules are in force (or with --cleanup), remove those of kube-proxy in modes nftables and ipvs; those of iptables mode \
             are continued",
        ),
        switch("dry-run", "print the transaction that would be made, and change nothing"),
        switch("cleanup", "remove the service rules of both modes from this host, and end"),
        switch("init-only", "set kernel parameters, which needs full root, and end"),
        path("write-config-to", "write the configuration that holds to a file, and end"),
    ];
    let rules = Command::new("rules")
        .about(
            "Show what rules should be there and what rules are: `+` is missing, `-` is too much",
        )
        .arg(text("service", "only this service, as namespace/name"));
    Command::new("proxy")
        .about("Run the service proxy alone, in kube-proxy's place, until SIGTERM; rules stay")
        .after_help(AFTER)
        .args(own.map(|arg| arg.global(true)))
        .args(flags())
        .subcommand(rules)
}

fn path(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("PATH").value_parser(value_parser!(PathBuf)).help(help)
}

fn text(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("VALUE").help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    boolean(Arg::new(name).long(name).help(help)).value_parser(value_parser!(bool))
}

/// Go's flags of truth: alone, or with `=`.
fn boolean(arg: Arg) -> Arg {
    arg.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true")
}

/// One argument for each flag of the table; the flags of what has no use here are not shown.
fn flags() -> impl Iterator<Item = Arg> {
    let mut seen = BTreeSet::new();
    let all = FIELDS.iter().flat_map(|field| field.flags.iter().map(move |flag| (field, *flag)));
    let first = all.filter(move |(_, flag)| seen.insert(*flag));
    first.map(|(field, flag)| argument(field, flag))
}

fn argument(field: &Field, flag: &'static str) -> Arg {
    let default = if field.default.is_empty() || field.kind == Kind::List {
        String::new()
    } else {
        format!(" [default: {}]", field.default)
    };
    let arg = Arg::new(flag)
        .long(flag)
        .value_name("VALUE")
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .global(true)
        .hide(field.usage != Use::Same)
        .help(format!("{}{default}", field.help));
    let arg = if flag == "v" { arg.short('v') } else { arg };
    if field.kind == Kind::Flag { boolean(arg) } else { arg }
}

impl Arguments {
    /// From what was parsed.
    pub fn of(matches: &ArgMatches, host_name: &str) -> Self {
        // global arguments are known to the subcommand, too, wherever they stand
        let (rules, matches) = match matches.subcommand() {
            Some((_, inner)) => (true, inner),
            None => (false, matches),
        };
        let path = |name| matches.get_one::<PathBuf>(name).cloned();
        let is_set = |name| matches.get_one::<bool>(name).copied().unwrap_or(false);
        let flags: BTreeSet<_> = FIELDS.iter().flat_map(|field| field.flags).collect();
        let given = flags.into_iter().filter_map(|flag| {
            let texts: Vec<String> = matches.get_many::<String>(flag)?.cloned().collect();
            Some(((*flag).to_owned(), texts))
        });
        Self {
            task: match path("write-config-to") {
                Some(path) => Task::WriteConfig(path),
                None if rules => {
                    Task::Rules { service: matches.get_one::<String>("service").cloned() }
                }
                None if is_set("cleanup") => Task::Cleanup,
                None if is_set("init-only") => Task::Prepare,
                None if is_set("dry-run") => Task::DryRun,
                None => Task::Serve,
            },
            given: Given {
                file: path("config"),
                flags: given.collect(),
                master: matches.get_one::<String>("master").cloned(),
                host_name: host_name.to_owned(),
            },
            static_dir: path("static-dir"),
            take_over: is_set("take-over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::config::{Mode, load};

    fn of(line: &str) -> Arguments {
        let matches = command().try_get_matches_from(line.split(' '));
        Arguments::of(&matches.unwrap_or_else(|error| panic!("{line}: {error}")), "host")
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
        let help = command().render_long_help().to_string();
        assert!(help.contains("--proxy-mode") && !help.contains("--ipvs-scheduler"), "{help}");
    }

    #[test]
    fn tasks_are_told_apart() {
        let service = Some("default/web".to_owned());
        let table = [
            ("proxy", Task::Serve),
            ("proxy --cleanup", Task::Cleanup),
            ("proxy --cleanup=false", Task::Serve),
            ("proxy --dry-run --kubeconfig /k", Task::DryRun),
            ("proxy --init-only=true", Task::Prepare),
            ("proxy --write-config-to /x", Task::WriteConfig("/x".into())),
            ("proxy rules", Task::Rules { service: None }),
            (
                "proxy --kubeconfig /k rules --service default/web",
                Task::Rules { service: service.clone() },
            ),
            ("proxy rules --kubeconfig /k --service default/web", Task::Rules { service }),
        ];
        for (line, task) in table {
            assert_eq!(of(line).task, task, "{line}");
        }
    }

    #[test]
    fn kube_proxys_command_line_is_understood() {
        let line = "proxy --kubeconfig=/k --master=https://10.0.0.1:6443 --proxy-mode=nftables --v=2 --masquerade-all \
                    --iptables-localhost-nodeports=false --oom-score-adj=-998 --feature-gates=A=true,B=false --ipvs-strict-arp=true \
                    --hostname-override=n1 --nodeport-addresses=10.0.0.0/8 --nodeport-addresses=primary --conntrack-max-per-core=0";
        let arguments = of(line);
        let config = load(&arguments.given).unwrap().config;
        assert_eq!((config.mode, config.node_name.as_str()), (Mode::Nftables, "n1"));
        assert_eq!(config.api.master.as_deref(), Some("https://10.0.0.1:6443"));
        assert!(config.masquerade_all && !config.localhost_node_ports && config.node_ports.primary);
        assert_eq!((config.oom_score_adj, config.log.verbosity), (-998, 2));
        assert_eq!(config.node_ports.ranges.len(), 1);
        assert_eq!(of("proxy -v 4").given.flags, [("v".to_owned(), vec!["4".to_owned()])]);
    }
}
