//! The commands of `dhcp`: questions to the daemon.

use std::path::Path;
use std::time::Duration;

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode};

use super::conf::{self, Conf};
use super::lease::Lease;
use super::plan;
use super::rpc::{Allocate, Answer, Attachment, Question, RpcError, ask};
use crate::step::step;
use crate::undo::Undo;
use crate::{code, sandbox};

/// What the daemon answers from memory, it answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gets a lease. The daemon bounds how long that may take, and gives up when it is released meanwhile.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    sandbox::open(call)?;
    let question = Question::Allocate(Allocate {
        attachment: attachment(call),
        netns: netns(call)?,
        provide: conf.provide.clone(),
        request: conf.request.clone(),
    });
    let mut undo = Undo::default();
    let outcome = step("get a lease", || {
        let lease = lease(ask(&conf.socket, &question, None))?;
        undo.push("the lease", || release(call, &conf.socket));
        result(&lease, &conf)
    });
    undo.settle(outcome)
}

/// The lease must be held, and be the one that ADD answered with.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    let question = Question::Check { attachment: attachment(call) };
    let held = result(&lease(ask(&conf.socket, &question, Some(PATIENCE)))?, &conf)?;
    let Some(previous) = &call.conf.prev_result else { return Ok(()) };
    let same = |ours: &cni::IpConfig, other: &cni::IpConfig| {
        other.address == ours.address && (ours.gateway.is_none() || other.gateway == ours.gateway)
    };
    match held.ips.iter().find(|ours| !previous.ips.iter().any(|other| same(ours, other))) {
        None => Ok(()),
        Some(ours) => {
            let via = ours.gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
            let msg = format!("dhcp: prevResult has no address {}{via}", ours.address);
            let details = "that is what the daemon holds a lease of for this interface";
            Err(Error::new(code::DRIFT, msg).with_details(details))
        }
    }
}

pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let socket = conf::socket(&call.conf)?;
    step("give the lease back", || release(call, &socket))
}

pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let network = call.conf.name.clone();
    let valid = call.valid_attachments.iter().map(|valid| Attachment {
        container: valid.container_id.clone(),
        network: network.clone(),
        ifname: valid.ifname.clone(),
    });
    let question = Question::Collect { network: network.clone(), valid: valid.collect() };
    let socket = conf::socket(&call.conf)?;
    step("give back what nobody needs", || unless_absent(ask(&socket, &question, None)))
}

pub fn status(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    match ask(&conf.socket, &Question::Ping {}, Some(PATIENCE)) {
        Err(error) => Err(error.into_error(ErrorCode::NotAvailable)),
        answer => answered(answer).map(drop),
    }
}

fn release(call: &Call<'_>, socket: &Path) -> Result<(), Error> {
    let question = Question::Release { attachment: attachment(call) };
    unless_absent(ask(socket, &question, None))
}

/// Without our daemon there is nobody who holds a lease, and so nothing to give back: it is only told.
fn unless_absent(answer: Result<Answer, RpcError>) -> Result<(), Error> {
    match answer {
        Err(error @ (RpcError::Dial { .. } | RpcError::Foreign { .. })) => {
            eprintln!("no lease is given back: {}", error.into_error(ErrorCode::TryAgainLater));
            Ok(())
        }
        answer => answered(answer).map(drop),
    }
}

fn lease(answer: Result<Answer, RpcError>) -> Result<Lease, Error> {
    match answered(answer)? {
        Answer::Lease(lease) => Ok(lease),
        other => Err(Error::new(ErrorCode::Decode, "the DHCP daemon answered without a lease")
            .with_details(format!("{other:?}"))),
    }
}

fn answered(answer: Result<Answer, RpcError>) -> Result<Answer, Error> {
    match answer {
        Ok(Answer::Error(refusal)) => Err(refusal.into()),
        Ok(answer) => Ok(answer),
        Err(error) => Err(error.into_error(ErrorCode::TryAgainLater)),
    }
}

fn result(lease: &Lease, conf: &Conf) -> Result<CniResult, Error> {
    plan::result(lease, conf.priority).ok_or_else(|| {
        Error::new(ErrorCode::Decode, "DHCP option Subnet Mask not found in DHCPACK")
    })
}

fn attachment(call: &Call<'_>) -> Attachment {
    Attachment {
        container: call.container_id.clone(),
        network: call.conf.name.clone(),
        ifname: call.ifname.clone(),
    }
}

/// The daemon has another working directory.
fn netns(call: &Call<'_>) -> Result<String, Error> {
    let path = call.netns.as_deref().unwrap_or(Path::new(""));
    let absolute = std::path::absolute(path).map_err(|error| {
        let msg = format!("failed to make {:?} an absolute path", path.display().to_string());
        Error::new(ErrorCode::InvalidEnvironment, msg).with_details(error.to_string())
    })?;
    absolute.into_os_string().into_string().map_err(|path| {
        let msg = format!("CNI_NETNS is not text: {}", path.display());
        Error::new(ErrorCode::InvalidEnvironment, msg)
    })
}
