//! Following a kind: first what there is, then what changes.

use std::time::Duration;

use serde_json::Value;

use crate::api::hub::{Change, End};
use crate::api::options::ListOptions;
use crate::api::status::Status;
use crate::api::token::Token;
use crate::api::{Api, Place};
use crate::store::Revision;

/// How many objects are read at a time: the state of a large kind is never held at once.
const PAGE: usize = 500;
/// How long to wait before a kind is read again after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// What is told of a kind.
#[derive(Debug)]
pub enum Told<'a> {
    /// What was said of the kind before counts no more: all of it is told again.
    Begin,
    /// An object that there is.
    Is(&'a Value),
    /// All objects that there were at the beginning have been told.
    Complete,
    /// A change: what an object was, and what it is.
    Changed(Option<&'a Value>, Option<&'a Value>),
}

/// Tells all of a kind, for ever. `place` names the kind alone.
pub async fn follow(api: &Api, place: &Place, mut tell: impl FnMut(Told<'_>) + Send) {
    loop {
        if let Err(status) = follow_once(api, place, &mut tell).await {
            tracing::warn!(kind = ?place.kind, error = status.message(), "the kind is read again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn follow_once(
    api: &Api,
    place: &Place,
    tell: &mut (impl FnMut(Told<'_>) + Send),
) -> Result<(), Status> {
    tell(Told::Begin);
    let revision = tell_state(api, place, tell).await?;
    let mut changes = api.hub.changes(&place.kind, revision).await?;
    tell(Told::Complete);
    loop {
        match changes.next().await {
            Ok(found) => found.iter().for_each(|change| tell_change(change, tell)),
            Err(End::CutOff) => return Ok(()),
            Err(End::Failed(status)) => return Err(status),
        }
    }
}

/// Tells the objects of a kind as they were at one revision, which it answers.
async fn tell_state(
    api: &Api,
    place: &Place,
    tell: &mut (impl FnMut(Told<'_>) + Send),
) -> Result<Revision, Status> {
    let mut options = ListOptions { limit: PAGE, ..ListOptions::default() };
    loop {
        let page = api.list(place, &options).await?;
        page.objects.iter().for_each(|object| tell(Told::Is(object)));
        match page.token {
            None => return Ok(Revision(page.revision)),
            Some(token) => options.token = Some(Token::read(&token)?),
        }
    }
}

fn tell_change(change: &Change, tell: &mut impl FnMut(Told<'_>)) {
    let object = |side: &Option<crate::api::hub::Side>| {
        side.as_ref().and_then(crate::api::hub::Side::object)
    };
    let (before, after) = (object(&change.before), object(&change.after));
    tell(Told::Changed(before.as_deref(), after.as_deref()));
}
