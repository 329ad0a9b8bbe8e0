//! What somebody may write beyond what verbs and kinds can tell: kubelets only about themselves, and nobody hands on rights that he
//! does not have.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::api::status::Status;
use crate::api::{Admission, Admitted, Api, Leaving, Place};
use crate::auth::User;
use crate::auth::authorizer::Authorizer;
use crate::auth::node::restriction::{self, Change, Verb};
use crate::auth::rbac::escalation::EscalationError;
use crate::auth::rbac::{GROUP, Kind};
use crate::controllers::{if_found, place};
use crate::meta::object::Meta;
use crate::store::Operation;

/// Looks at who writes what.
pub struct Guard {
    /// Who may do what.
    pub authorizer: Arc<Authorizer>,
    /// Whether kubelets are held to what is theirs.
    pub restrict_nodes: bool,
}

#[async_trait]
impl Admission for Guard {
    async fn admit(&self, api: &Api, write: &mut Admitted<'_>) -> Result<(), Status> {
        let Some(user) = write.user else { return Ok(()) };
        let change = Change {
            verb: if write.old.is_some() { Verb::Update } else { Verb::Create },
            subresource: write.part.subresource(),
            new: write.object,
            old: write.old,
            ..change_of(write.place)
        };
        if self.restrict_nodes {
            restrict(api, user, change, write.place).await?;
        }
        self.check_escalation(user, write)
    }

    async fn part(&self, api: &Api, leaving: &Leaving<'_>) -> Result<Vec<Operation>, Status> {
        let kind = &leaving.place.kind;
        if kind.group.is_empty()
            && kind.plural == "namespaces"
            && NEEDED.contains(&leaving.place.name.as_str())
        {
            return Err(Status::forbidden(
                kind,
                &leaving.place.name,
                "this namespace may not be deleted",
            ));
        }
        if let Some(user) = leaving.user.filter(|_| self.restrict_nodes) {
            let (verb, subresource) =
                if leaving.evicted { (Verb::Create, "eviction") } else { (Verb::Delete, "") };
            let change =
                Change { verb, subresource, old: Some(leaving.object), ..change_of(leaving.place) };
            restrict(api, user, change, leaving.place).await?;
        }
        Ok(Vec::new())
    }
}

/// Without these nothing works.
const NEEDED: [&str; 3] = ["default", "kube-public", "kube-system"];

static NOTHING: Value = Value::Null;

/// A change of what is at a place, of which nothing else is said yet.
pub fn change_of(place: &Place) -> Change<'_> {
    Change {
        verb: Verb::Update,
        group: &place.kind.group,
        resource: &place.kind.plural,
        subresource: "",
        namespace: &place.namespace,
        name: &place.name,
        new: &NOTHING,
        old: None,
        node_uid: None,
    }
}

/// Refuses what a kubelet may not write.
pub async fn restrict(
    api: &Api,
    user: &User,
    change: Change<'_>,
    about: &Place,
) -> Result<(), Status> {
    let Some(node) = user.node() else { return Ok(()) };
    let found = if_found(api.get(&place(api, ("", "v1", "nodes"), "", node)?).await)?;
    let uid = found.as_ref().map(|node| Meta::of(node).uid());
    restriction::admit(user, &Change { node_uid: uid, ..change })
        .map_err(|why| Status::forbidden(&about.kind, &about.name, &why))
}

impl Guard {
    fn check_escalation(&self, user: &User, write: &Admitted<'_>) -> Result<(), Status> {
        let kind = &write.place.kind;
        let Some(of_rules) = Kind::from_resource(&kind.plural).filter(|_| kind.group == GROUP)
        else {
            return Ok(());
        };
        let name = Meta::of(write.object).name();
        self.authorizer.check_escalation(user, of_rules, write.object, write.old).map_err(|error| {
            match error {
                EscalationError::NoRole { .. } => Status::new(404, "NotFound", error.to_string()),
                error => Status::forbidden(kind, name, &error.to_string()),
            }
        })
    }
}
