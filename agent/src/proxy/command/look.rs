//! `--dry-run` and `rules`: what would be written, and what is there. Nothing is changed.
//!
//! `rules` reads the objects itself, rather than ask a running proxy: it also answers where the proxy is stuck, or not there yet, and
//! shows what a fresh start would want.

use std::io::Write as _;

use netns_tools::iptables::Family;
use netns_tools::netlink::Netlink;

use super::arguments::Arguments;
use super::{CommandError, objects};
use crate::listing;
use crate::proxy::backend::Comparison;
use crate::proxy::config::ProxyConfig;
use crate::proxy::host;
use crate::proxy::model::{Model, PortId};
use crate::proxy::options::RuleOptions;
use crate::proxy::run::{FamilyParts, backends, first_model};

/// What was read of the objects and this host.
struct Seen {
    model: Model,
    options: RuleOptions,
    families: Vec<FamilyParts>,
}

async fn see(arguments: &Arguments, config: &ProxyConfig) -> Result<Seen, CommandError> {
    let (families, problems) = backends::open(config.mode, &config.required(), false)?;
    super::tell(&problems);
    let (_source, mut events) = objects::follow(arguments, config).await?;
    let model = first_model(&mut events, None).await.ok_or(CommandError::NoObjects)?;
    let mut netlink = Netlink::open().map_err(host::AddressError::List)?;
    let options = config.rule_options(model.node(), &host::addresses(&mut netlink)?);
    Ok(Seen { model, options, families })
}

/// Prints the transaction of each family.
pub async fn dry_run(arguments: &Arguments, config: &ProxyConfig) -> Result<(), CommandError> {
    let Seen { model, options, families } = see(arguments, config).await?;
    for mut parts in families {
        let family = parts.backend.family();
        let plan = parts.backend.plan(model.ports(family), &options)?;
        print(&format!("# {}, mode {}\n{plan}\n", name(family), config.mode.name()));
    }
    Ok(())
}

/// Prints desired and actual rules side by side.
pub async fn rules(
    arguments: &Arguments,
    config: &ProxyConfig,
    service: Option<&str>,
) -> Result<(), CommandError> {
    let Seen { model, options, families } = see(arguments, config).await?;
    let only = |id: &PortId| service.is_none_or(|service| id.service.as_str() == service);
    for mut parts in families {
        let family = parts.backend.family();
        let compared = parts.backend.compare(model.ports(family), &options, &only)?;
        print(&side_by_side(&format!("{}, mode {}", name(family), config.mode.name()), &compared));
    }
    Ok(())
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// A reader that has seen enough is not an error.
fn print(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).ok();
}

fn side_by_side(title: &str, compared: &Comparison) -> String {
    listing::side_by_side(&format!("{title}: "), &compared.desired, &compared.actual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_marked() {
        let of = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let compared = Comparison { desired: of(&["a", "b"]), actual: of(&["b", "c"]) };
        let expected = "# IPv4: 2 desired, 2 there: 1 missing, 1 too much\n+ a\n  b\n- c\n";
        assert_eq!(side_by_side("IPv4", &compared), expected);
        let same = Comparison { desired: of(&["a"]), actual: of(&["a"]) };
        assert_eq!(
            side_by_side("IPv6", &same),
            "# IPv6: 1 desired, 1 there: all as it should be\n  a\n"
        );
    }
}
