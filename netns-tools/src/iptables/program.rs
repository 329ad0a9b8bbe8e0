//! The real thing: `iptables-save` and `iptables-restore`, of the variant that this host uses.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::batch::Batch;
use super::ruleset::{Ruleset, Table};
use super::{BulkRules, Family, Glance, IptablesError, Rules, legacy};
use crate::nftables::{self, Nftables};

/// How long a commit waits for the xtables lock, in seconds. The nft variant has no such lock.
const LOCK_SECONDS: u32 = 5;

/// Where programs are looked for besides `PATH`: a plugin may be started with hardly any environment.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin";

/// Which kernel interface the rules go through. The two do not see each other's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// `nf_tables`, by `iptables-nft`.
    Nft,
    /// The old tables, `iptables-legacy`.
    Legacy,
}

impl Backend {
    const fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }
}

/// The iptables of a host, in the calling thread's namespace.
#[derive(Clone, Debug)]
pub struct Iptables {
    family: Family,
    backend: Backend,
    save: PathBuf,
    restore: PathBuf,
    mixed: bool,
}

impl Iptables {
    /// Finds the variant in use: the one that holds Kubernetes' or CNI's rules, else the one with more rules, else the
    /// one behind the plain name `iptables` (the order of kubernetes-sigs/iptables-wrappers). `None` if there is no
    /// iptables here.
    pub fn detect(family: Family) -> Result<Option<Self>, IptablesError> {
        Ok(Self::find_out(family)?.map(|(variant, _)| variant))
    }

    /// As [`Self::detect`], with one table's rules: those that were looked at to find the variant are not read again, which
    /// saves a process or two.
    pub fn detect_with(
        family: Family,
        table: &str,
    ) -> Result<Option<(Self, Table)>, IptablesError> {
        Ok(match Self::find_out(family)? {
            None => None,
            Some((variant, Some(mut seen))) => {
                Some((variant, seen.tables.remove(table).unwrap_or_default()))
            }
            Some((mut variant, None)) => {
                let rules = variant.save(table)?;
                Some((variant, rules))
            }
        })
    }

    /// The variant in use, and all its rules if they had to be looked at.
    fn find_out(family: Family) -> Result<Option<(Self, Option<Ruleset>)>, IptablesError> {
        let (nft, legacy) =
            (Self::variant(family, Backend::Nft), Self::variant(family, Backend::Legacy));
        match (nft, legacy) {
            (Some(nft), Some(legacy)) => Self::choose(nft, legacy).map(Some),
            (one, other) => {
                Ok(one.or(other).or_else(|| Self::plain(family)).map(|only| (only, None)))
            }
        }
    }

    /// Whether this host has an iptables of that family. Starts no process where the variants have names of their own.
    pub fn is_installed(family: Family) -> bool {
        let variant = |backend| Self::variant(family, backend).is_some();
        variant(Backend::Nft) || variant(Backend::Legacy) || Self::plain(family).is_some()
    }

    /// Whether one of these chains may be in a table. Starts no process: nf_tables is asked over netlink, and where there are
    /// legacy tables, which have no such interface, the answer is yes.
    pub fn may_have_chain<const N: usize>(family: Family, table: &str, chains: [&str; N]) -> bool {
        let own = nft_family(family);
        if legacy_tables_exist() {
            return true;
        }
        let Ok(mut nft) = Nftables::open() else { return true };
        let mut has = |chain| nft.has_chain(nftables::Table::new(own, table), chain);
        chains.iter().any(|chain| has(chain).unwrap_or(true))
    }

    /// The installed variants that may hold one of these chains, given as table and chain. Starts no process: nf_tables is asked over
    /// netlink; where there are legacy tables, which have no such interface, the legacy variant may.
    pub fn holders(family: Family, chains: &[(&str, &str)]) -> Vec<Self> {
        let own = nft_family(family);
        let in_nft = Nftables::open().is_ok_and(|mut nft| {
            let mut has = |(table, chain): &(&str, &str)| {
                nft.has_chain(nftables::Table::new(own, table), chain).unwrap_or(true)
            };
            chains.iter().any(&mut has)
        });
        let in_legacy = legacy_tables_exist();
        let wanted = |backend| match backend {
            Backend::Nft => in_nft,
            Backend::Legacy => in_legacy,
        };
        let mut all = Self::installed(family);
        all.retain(|variant| wanted(variant.backend));
        all
    }

    /// The variant of a backend, if it is installed.
    pub fn variant(family: Family, backend: Backend) -> Option<Self> {
        let prefix = format!("{}-{}", name(family), backend.word());
        let (save, restore) =
            (find(&format!("{prefix}-save"))?, find(&format!("{prefix}-restore"))?);
        Some(Self { family, backend, save, restore, mixed: false })
    }

    /// The plain names, on hosts that have one variant only and no names for it.
    fn plain(family: Family) -> Option<Self> {
        let prefix = name(family);
        let (save, restore) =
            (find(&format!("{prefix}-save"))?, find(&format!("{prefix}-restore"))?);
        let backend = default_backend(family)?;
        Some(Self { family, backend, save, restore, mixed: false })
    }

    fn choose(mut nft: Self, mut legacy: Self) -> Result<(Self, Option<Ruleset>), IptablesError> {
        let legacy_tables = legacy_tables_exist();
        // Nothing speaks for legacy: that is known without starting a program.
        if !legacy_tables && default_backend(nft.family) == Some(Backend::Nft) {
            return Ok((nft, None));
        }
        let nft_rules = nft.everything()?;
        // Looking at a legacy table makes the kernel create it; a module that cannot be loaded means no rules there.
        let legacy_rules = if legacy_tables {
            legacy.everything().unwrap_or_default()
        } else {
            Ruleset::default()
        };
        let (nft_weight, legacy_weight) = (weight(&nft_rules), weight(&legacy_rules));
        let mixed = nft_weight.1 > 0 && legacy_weight.1 > 0;
        (nft.mixed, legacy.mixed) = (mixed, mixed);
        Ok(match nft_weight.cmp(&legacy_weight) {
            std::cmp::Ordering::Greater => (nft, Some(nft_rules)),
            std::cmp::Ordering::Less => (legacy, Some(legacy_rules)),
            std::cmp::Ordering::Equal => match default_backend(nft.family) {
                Some(Backend::Legacy) => (legacy, Some(legacy_rules)),
                _ => (nft, Some(nft_rules)),
            },
        })
    }

    /// The backend in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Whether the kernel has a table of this variant, without which there is no rule and no policy. Starts no process, and makes
    /// no table: to look at one with a program makes it in the legacy variant.
    pub fn has_table(&self, table: &str) -> bool {
        match self.backend {
            Backend::Legacy => legacy_tables(self.family).lines().any(|name| name == table),
            Backend::Nft => Nftables::open()
                .and_then(|mut nft| {
                    nft.has_table(nftables::Table::new(nft_family(self.family), table))
                })
                .unwrap_or(false),
        }
    }

    /// Every variant that is installed.
    pub fn installed(family: Family) -> Vec<Self> {
        let named = [Backend::Nft, Backend::Legacy].map(|backend| Self::variant(family, backend));
        let mut all: Vec<_> = named.into_iter().flatten().collect();
        if all.is_empty() {
            all.extend(Self::plain(family));
        }
        all
    }

    /// Whether both backends hold rules, so that one of them decides without the other's knowledge.
    pub fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Whether the other backend holds rules by now, of whomever. Where it has no tables that is known without starting a program, so
    /// this may be asked now and then; what cannot be seen counts as not there.
    pub fn has_rival(&self) -> bool {
        let (other, may_be) = match self.backend {
            Backend::Nft => (Backend::Legacy, legacy_tables_exist()),
            Backend::Legacy => (Backend::Nft, nft_tables_exist(self.family)),
        };
        let other = may_be.then(|| Self::variant(self.family, other)).flatten();
        let rules = other.and_then(|mut other| other.everything().ok());
        rules.is_some_and(|rules| weight(&rules).1 > 0)
    }

    fn everything(&mut self) -> Result<Ruleset, IptablesError> {
        let output = run(&self.save, &[], &"")?;
        self.parse(&output)
    }

    /// How many rules the chains have or are led to by; the kernel counts both in one (`use` of `struct nft_chain`).
    fn nft_glance(&self, chains: &[(&str, &str)]) -> Result<Glance, nftables::NftError> {
        let mut nft = Nftables::open()?;
        let mut glance = Glance::new();
        for (table, chain) in chains {
            let found = nft.chain(nftables::Table::new(nft_family(self.family), table), chain)?;
            let found = found.map(|found| (key(table, chain), (found.uses, 0)));
            glance.extend(found);
        }
        Ok(glance)
    }

    /// How many entries the tables of the chains have, and of what size.
    fn legacy_glance(&self, chains: &[(&str, &str)]) -> Result<Glance, IptablesError> {
        let mut glance = Glance::new();
        let tables: BTreeSet<&str> = chains.iter().map(|(table, _)| *table).collect();
        for table in tables {
            let entries = legacy::entries(self.family, table);
            let entries = entries.map_err(|source| look_failed(table, source))?;
            glance.insert(key(table, ""), entries);
        }
        Ok(glance)
    }

    fn parse(&self, output: &Output) -> Result<Ruleset, IptablesError> {
        let text = String::from_utf8_lossy(&output.stdout);
        let program = || self.save.display().to_string();
        Ruleset::parse(&text).map_err(|source| IptablesError::Parse { program: program(), source })
    }
}

impl Rules for Iptables {
    fn family(&self) -> Family {
        self.family
    }

    fn save(&mut self, table: &str) -> Result<Table, IptablesError> {
        let output = run(&self.save, &["-t", table], &"")?;
        Ok(self.parse(&output)?.tables.remove(table).unwrap_or_default())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), IptablesError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.restore(batch)
    }
}

impl BulkRules for Iptables {
    fn each_line(&mut self, line: &mut dyn FnMut(&str)) -> Result<(), IptablesError> {
        let name = self.save.display().to_string();
        let failed = |source| IptablesError::Run { program: name.clone(), source };
        let mut child = start(&self.save, &[])?;
        drop(child.stdin.take());
        if let Some(pipe) = child.stdout.take() {
            read_lines(pipe, line).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() { Ok(()) } else { Err(refused(&name, &output, &"")) }
    }

    fn restore(&mut self, input: &dyn Display) -> Result<(), IptablesError> {
        let seconds = LOCK_SECONDS.to_string();
        run(&self.restore, &["--noflush", "-w", &seconds], input).map(drop)
    }

    fn check(&mut self, input: &dyn Display) -> Result<(), IptablesError> {
        let seconds = LOCK_SECONDS.to_string();
        run(&self.restore, &["--noflush", "--test", "-w", &seconds], input).map(drop)
    }

    fn glance(&mut self, chains: &[(&str, &str)]) -> Result<Glance, IptablesError> {
        match self.backend {
            Backend::Nft => {
                self.nft_glance(chains).map_err(|source| look_failed("nf_tables", source))
            }
            Backend::Legacy => self.legacy_glance(chains),
        }
    }
}

fn key(table: &str, chain: &str) -> (String, String) {
    (table.to_owned(), chain.to_owned())
}

fn look_failed(
    table: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> IptablesError {
    IptablesError::Look { table: table.to_owned(), source: Box::new(source) }
}

const fn nft_family(family: Family) -> nftables::Family {
    match family {
        Family::V4 => nftables::Family::Ip,
        Family::V6 => nftables::Family::Ip6,
    }
}

fn read_lines(pipe: impl Read, each: &mut dyn FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        each(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

fn start(program: &Path, args: &[&str]) -> Result<Child, IptablesError> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |source| IptablesError::Run { program: program.display().to_string(), source };
    command.spawn().map_err(failed)
}

fn run(program: &Path, args: &[&str], stdin: &dyn Display) -> Result<Output, IptablesError> {
    let name = program.display().to_string();
    let failed = |source| IptablesError::Run { program: name.clone(), source };
    let mut child = start(program, args)?;
    // The programs read all of their input before they print anything, and print little: no deadlock here.
    let written = match child.stdin.take() {
        Some(pipe) => {
            let mut pipe = BufWriter::with_capacity(64 * 1024, pipe);
            write!(pipe, "{stdin}").and_then(|()| pipe.flush())
        }
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        // it went away early and yet content: it had what it needed
        written.or_else(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(failed(error)) }
        })?;
        return Ok(output);
    }
    Err(refused(&name, &output, stdin))
}

fn refused(program: &str, output: &Output, stdin: &dyn Display) -> IptablesError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    explain(program, &stderr, output.status.code(), &stdin.to_string())
}

const fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&own).chain(std::env::split_paths(SYSTEM_PATH));
    directories.map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// The backend behind the plain names. The file that they lead to tells by its name (`xtables-nft-multi`); where it does not,
/// the program is asked.
fn default_backend(family: Family) -> Option<Backend> {
    let restore = find(&format!("{}-restore", name(family)))?;
    let target = restore.canonicalize().unwrap_or_default();
    let file = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = [Backend::Nft, Backend::Legacy].into_iter().find(|one| file.contains(one.word()));
    named.or_else(|| {
        let output = Command::new(&restore).arg("--version").output().ok()?;
        let nft = String::from_utf8_lossy(&output.stdout).contains("nf_tables");
        Some(if nft { Backend::Nft } else { Backend::Legacy })
    })
}

/// Whether the kernel has made any legacy table in this namespace.
fn legacy_tables_exist() -> bool {
    [Family::V4, Family::V6].into_iter().any(|family| !legacy_tables(family).trim().is_empty())
}

/// The legacy tables that the kernel has made in this namespace, one a line.
fn legacy_tables(family: Family) -> String {
    let path = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Whether `iptables-nft` has made any of its tables in this namespace.
fn nft_tables_exist(family: Family) -> bool {
    let Ok(mut nft) = Nftables::open() else { return false };
    let names = ["filter", "nat", "mangle", "raw", "security"];
    names
        .iter()
        .any(|name| nft.has_table(nftables::Table::new(nft_family(family), name)).unwrap_or(true))
}

/// How much a variant looks used: chains of Kubernetes or CNI first, then any rules.
fn weight(ruleset: &Ruleset) -> (usize, usize) {
    let chains = || ruleset.tables.values().flat_map(|table| &table.chains);
    let ours =
        chains().filter(|(name, _)| name.starts_with("KUBE-") || name.starts_with("CNI-")).count();
    (ours, chains().map(|(_, chain)| chain.rules.len()).sum())
}

/// Exit code 4 is "resource problem": the lock. Other failures name a line of the input.
fn explain(program: &str, stderr: &str, code: Option<i32>, stdin: &str) -> IptablesError {
    if code == Some(4) && stderr.contains("lock") {
        return IptablesError::Locked { program: program.to_owned(), seconds: LOCK_SECONDS };
    }
    let number =
        stderr.split_once("line ").or_else(|| stderr.split_once("line: ")).and_then(|(_, rest)| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().ok()
        });
    let offending =
        number.and_then(|number| stdin.lines().nth(number.checked_sub(1)?)).map(str::to_owned);
    let message = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    IptablesError::Failed { program: program.to_owned(), message, offending }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestNetns;

    /// Whether anybody has put anything into a table.
    fn is_used(table: &Table) -> bool {
        table.chains.values().any(|chain| chain.policy.is_none() || !chain.rules.is_empty())
    }

    fn in_both(test: impl Fn(&mut Iptables) + Sync) {
        for backend in [Backend::Nft, Backend::Legacy] {
            let ns = TestNetns::new("ipt");
            let mut iptables =
                Iptables::variant(Family::V4, backend).expect("both variants are installed");
            ns.run(|| test(&mut iptables));
        }
    }

    #[test]
    fn a_batch_is_all_or_nothing() {
        in_both(|iptables| {
            let mut good = Batch::new();
            good.declare_chain("nat", "HEDDLE-A");
            good.append("nat", "HEDDLE-A", "-d 10.0.0.1/32 -j ACCEPT");
            good.insert("nat", "POSTROUTING", "-j HEDDLE-A");
            iptables.commit(&good).unwrap();
            let before = iptables.save("nat").unwrap();
            assert!(before.contains_rule("POSTROUTING", "-j HEDDLE-A"));

            let mut bad = Batch::new();
            bad.append("nat", "HEDDLE-A", "-d 10.0.0.2/32 -j ACCEPT");
            bad.append("nat", "HEDDLE-A", "-j NO-SUCH-CHAIN");
            let error = iptables.commit(&bad).unwrap_err().to_string();
            assert!(error.contains("failed"), "{error}");
            assert_eq!(iptables.save("nat").unwrap(), before);

            let mut undo = Batch::new();
            undo.delete("nat", "POSTROUTING", "-j HEDDLE-A");
            undo.declare_chain("nat", "HEDDLE-A");
            undo.delete_chain("nat", "HEDDLE-A");
            iptables.commit(&undo).unwrap();
            assert!(!iptables.save("nat").unwrap().chains.contains_key("HEDDLE-A"));
        });
    }

    #[test]
    fn declaring_a_chain_empties_just_that_chain() {
        in_both(|iptables| {
            let mut batch = Batch::new();
            for chain in ["HEDDLE-A", "HEDDLE-B"] {
                batch.declare_chain("filter", chain);
                batch.append("filter", chain, "-j ACCEPT");
            }
            iptables.commit(&batch).unwrap();
            let mut again = Batch::new();
            again.declare_chain("filter", "HEDDLE-A");
            iptables.commit(&again).unwrap();
            let table = iptables.save("filter").unwrap();
            assert!(table.rules("HEDDLE-A").is_empty());
            assert_eq!(table.rules("HEDDLE-B"), ["-j ACCEPT"]);
        });
    }

    #[test]
    fn the_variant_with_rules_is_found() {
        for backend in [Backend::Nft, Backend::Legacy] {
            let ns = TestNetns::new("ipt");
            let (found, mixed) = ns.run(|| {
                let mut batch = Batch::new();
                batch.declare_chain("nat", "KUBE-SERVICES");
                Iptables::variant(Family::V4, backend).unwrap().commit(&batch).unwrap();
                let found = Iptables::detect(Family::V4).unwrap().unwrap();
                (found.backend(), found.is_mixed())
            });
            assert_eq!((found, mixed), (backend, false));
        }
    }

    #[test]
    fn rules_of_the_other_variant_are_seen() {
        for (own, other) in [(Backend::Nft, Backend::Legacy), (Backend::Legacy, Backend::Nft)] {
            for family in [Family::V4, Family::V6] {
                let ns = TestNetns::new("ipt");
                ns.run(|| {
                    let mut own = Iptables::variant(family, own).unwrap();
                    let mut other = Iptables::variant(family, other).unwrap();
                    let rule = &"*filter\n-A INPUT -j ACCEPT\nCOMMIT\n";
                    own.restore(rule).unwrap();
                    assert!(!own.has_rival());
                    // its tables alone say nothing
                    other.restore(&"*filter\nCOMMIT\n").unwrap();
                    assert!(!own.has_rival());
                    other.restore(rule).unwrap();
                    assert!(own.has_rival() && other.has_rival());
                    other.restore(&"*filter\n-F\nCOMMIT\n").unwrap();
                    assert!(!own.has_rival());
                });
            }
        }
    }

    #[test]
    fn the_variant_with_rules_is_found_with_them() {
        for backend in [Backend::Nft, Backend::Legacy] {
            let ns = TestNetns::new("ipt");
            ns.run(|| {
                let (_, empty) = Iptables::detect_with(Family::V4, "nat").unwrap().unwrap();
                assert!(!is_used(&empty), "{empty}");
                let mut batch = Batch::new();
                batch.new_chain("nat", "CNI-X");
                batch.append("nat", "CNI-X", "-j RETURN");
                let mut variant = Iptables::variant(Family::V4, backend).unwrap();
                variant.commit(&batch).unwrap();
                let (found, nat) = Iptables::detect_with(Family::V4, "nat").unwrap().unwrap();
                assert_eq!(
                    (found.backend(), nat.rules("CNI-X")),
                    (backend, vec!["-j RETURN".into()])
                );
                let (found, filter) = Iptables::detect_with(Family::V4, "filter").unwrap().unwrap();
                assert_eq!((found.backend(), is_used(&filter)), (backend, false));
            });
        }
    }

    #[test]
    fn a_chain_is_missed_without_a_process() {
        for backend in [Backend::Nft, Backend::Legacy] {
            let ns = TestNetns::new("ipt");
            ns.run(|| {
                let has = || Iptables::may_have_chain(Family::V4, "nat", ["CNI-Y", "CNI-X"]);
                assert!(!has());
                let mut batch = Batch::new();
                batch.new_chain("nat", "CNI-X");
                Iptables::variant(Family::V4, backend).unwrap().commit(&batch).unwrap();
                assert!(has());
                assert!(
                    backend == Backend::Legacy
                        || !Iptables::may_have_chain(Family::V4, "nat", ["CNI-Y"])
                );
            });
        }
    }

    #[test]
    fn a_table_is_looked_for_without_being_made() {
        for backend in [Backend::Nft, Backend::Legacy] {
            let ns = TestNetns::new("ipt");
            ns.run(|| {
                let mut variant = Iptables::variant(Family::V4, backend).unwrap();
                assert!(!variant.has_table("filter") && !variant.has_table("filter"));
                let mut batch = Batch::new();
                batch.append("nat", "POSTROUTING", "-j RETURN");
                variant.commit(&batch).unwrap();
                assert!(variant.has_table("nat") && !variant.has_table("filter"), "{backend:?}");
                assert!(!Iptables::variant(Family::V6, backend).unwrap().has_table("nat"));
            });
        }
    }

    #[test]
    fn a_rule_is_put_where_it_is_wanted() {
        in_both(|iptables| {
            let mut fake = super::super::FakeRules::new(Family::V4);
            let mut batch = Batch::new();
            for rule in ["-s 10.0.0.1/32 -j DROP", "-s 10.0.0.3/32 -j DROP"] {
                batch.append("filter", "FORWARD", rule);
            }
            batch.insert_at("filter", "FORWARD", 2, "-s 10.0.0.2/32 -j DROP");
            batch.insert_at("filter", "FORWARD", 4, "-s 10.0.0.4/32 -j DROP");
            let want = [1, 2, 3, 4].map(|number| format!("-s 10.0.0.{number}/32 -j DROP"));
            for rules in [iptables as &mut dyn Rules, &mut fake] {
                rules.commit(&batch).unwrap();
                assert_eq!(rules.save("filter").unwrap().rules("FORWARD"), want);
                let mut beyond = Batch::new();
                beyond.insert_at("filter", "FORWARD", 6, "-j DROP");
                rules.commit(&beyond).unwrap_err();
            }
        });
    }

    #[test]
    fn a_new_chain_that_is_there_is_left_alone() {
        in_both(|iptables| {
            let mut batch = Batch::new();
            batch.new_chain("nat", "CNI-X");
            batch.append("nat", "CNI-X", "-j RETURN");
            iptables.commit(&batch).unwrap();
            let error = iptables.commit(&batch).unwrap_err();
            assert!(error.is_chain_exists(), "{error}");
            assert_eq!(iptables.save("nat").unwrap().rules("CNI-X"), ["-j RETURN"]);
        });
    }

    #[test]
    fn an_error_quotes_the_line() {
        let error = explain(
            "x",
            "iptables-restore: line 3 failed",
            Some(1),
            "*nat\n:A - [0:0]\n-A A -j B\nCOMMIT\n",
        );
        assert_eq!(
            error.to_string(),
            "x failed: iptables-restore: line 3 failed; the line is: -A A -j B"
        );
        let locked =
            explain("x", "Another app is currently holding the xtables lock.", Some(4), "");
        assert!(matches!(locked, IptablesError::Locked { .. }));
    }
}
