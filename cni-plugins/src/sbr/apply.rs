//! ADD of `sbr`.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode};
use netns_tools::{NetNs, Netlink, NetlinkError, Route, Rule};

use super::conf::Conf;
use super::plan::{self, Plan};
use crate::interface::kernel_error;
use crate::lock::NetnsLock;
use crate::step::step;
use crate::undo::Undo;
use crate::{code, sandbox};

/// Routes what is sent from the interface's addresses by source; the result is passed on.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(&call.conf)?;
    let result = call.conf.prev_result.clone().ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "This plugin must be called as chained plugin")
            .with_details("sbr routes for an interface that a plugin before it has made; there is no prevResult")
    })?;
    let ips = plan::addresses(&result, &call.ifname)?;
    let ns = sandbox::open(call)?;
    // From looking for a free table until it is used. The reference locks the same file.
    let _lock = NetnsLock::of(&ns)?;
    let mut net = open(&ns)?;
    let oif = interface(&mut net, &call.ifname)?.ok_or_else(|| missing(&call.ifname))?;
    let (routes, rules) = state(&mut net)?;
    let plan = plan::plan(&conf, &ips, oif, &routes, &rules);
    refuse_existing(&conf, &plan, &rules)?;
    let mut undo = Undo::default();
    let outcome = apply(&mut net, &ns, &plan, &mut undo);
    undo.settle(outcome)?;
    Ok(result)
}

/// A socket in the container's namespace.
pub fn open(ns: &NetNs) -> Result<Netlink, Error> {
    Netlink::open_in(ns).map_err(|e| kernel_error("cannot open netlink", &e))
}

/// The index of the container's interface.
pub fn interface(net: &mut Netlink, ifname: &str) -> Result<Option<u32>, Error> {
    let link =
        net.link(ifname).map_err(|e| kernel_error(&format!("cannot look up {ifname:?}"), &e))?;
    Ok(link.map(|link| link.index))
}

/// The error of an interface that is not there.
pub fn missing(ifname: &str) -> Error {
    Error::new(code::CONFLICT, format!("Cannot find network interface {ifname}")).with_details(
        "the container has no interface of this name; sbr comes after the plugin that makes it",
    )
}

/// Every route and rule of the namespace.
pub fn state(net: &mut Netlink) -> Result<(Vec<Route>, Vec<Rule>), Error> {
    let routes = net.routes().map_err(|e| kernel_error("cannot list routes", &e))?;
    let rules = net.rules().map_err(|e| kernel_error("cannot list policy rules", &e))?;
    Ok((routes, rules))
}

/// An address that has a rule already has its routes elsewhere already: a second table would be without them.
fn refuse_existing(conf: &Conf, plan: &Plan, rules: &[Rule]) -> Result<(), Error> {
    for policy in &plan.policies {
        let same = |rule: &&Rule| {
            rule.from == policy.rule.from && conf.table.is_none_or(|table| rule.table == table)
        };
        if let Some(rule) = rules.iter().find(same) {
            let msg = format!("there is a policy rule for this address already: {rule}");
            return Err(Error::new(code::CONFLICT, msg).with_details(
                "call DEL for this attachment first, or \"ip rule del\" in the container",
            ));
        }
    }
    Ok(())
}

fn apply<'a>(
    net: &mut Netlink,
    ns: &'a NetNs,
    plan: &'a Plan,
    undo: &mut Undo<'a>,
) -> Result<(), Error> {
    // The rules first: an empty table lets a packet through to the main one, and DEL finds the tables by the rules.
    step("add the policy rules", || {
        plan.policies.iter().try_for_each(|policy| add_rule(net, ns, &policy.rule, undo))
    })?;
    step("fill the routing tables", || {
        let mut routes = plan.policies.iter().flat_map(|policy| &policy.routes);
        routes.try_for_each(|route| add_route(net, ns, route, undo))
    })?;
    step("take the routes out of the main table", || {
        plan.moved.iter().try_for_each(|route| remove_route(net, ns, route, undo))
    })?;
    step("hint at the source in the main table", || {
        plan.hinted.iter().try_for_each(|(old, new)| {
            remove_route(net, ns, old, undo)?;
            add_route(net, ns, new, undo)
        })
    })
}

fn add_rule<'a>(
    net: &mut Netlink,
    ns: &'a NetNs,
    rule: &'a Rule,
    undo: &mut Undo<'a>,
) -> Result<(), Error> {
    net.add_rule(rule)
        .map_err(|e| kernel_error(&format!("cannot add the policy rule {rule}"), &e))?;
    undo.push("the policy rule", move || {
        unless_gone(open(ns)?.delete_rule(rule), &format!("cannot delete the policy rule {rule}"))
    });
    Ok(())
}

fn add_route<'a>(
    net: &mut Netlink,
    ns: &'a NetNs,
    route: &'a Route,
    undo: &mut Undo<'a>,
) -> Result<(), Error> {
    net.append_route(route)
        .map_err(|e| kernel_error(&format!("cannot add the route {route}"), &e))?;
    undo.push("the route", move || {
        unless_gone(open(ns)?.delete_route(route), &format!("cannot delete the route {route}"))
    });
    Ok(())
}

fn remove_route<'a>(
    net: &mut Netlink,
    ns: &'a NetNs,
    route: &'a Route,
    undo: &mut Undo<'a>,
) -> Result<(), Error> {
    let what = format!("cannot take the route {route} out of the main table");
    unless_gone(net.delete_route(route), &what)?;
    undo.push("the removal of a route", move || restore(&mut open(ns)?, route));
    Ok(())
}

/// Puts a route back. That it is there is as good.
pub fn restore(net: &mut Netlink, route: &Route) -> Result<(), Error> {
    match net.append_route(route) {
        Err(error) if !error.is_exists() => {
            Err(kernel_error(&format!("cannot put the route {route} back"), &error))
        }
        _ => Ok(()),
    }
}

/// What is gone needs no removal.
pub fn unless_gone(done: Result<(), NetlinkError>, what: &str) -> Result<(), Error> {
    match done {
        Err(error) if !error.is_not_found() => Err(kernel_error(what, &error)),
        _ => Ok(()),
    }
}
