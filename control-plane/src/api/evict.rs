//! `/eviction`: deleting a pod for somebody who empties a node, as far as disruption budgets let it go.
//!
//! A budget is spent by the write that lets a pod go, so that no two evictions live on the same allowance; whoever keeps the budgets
//! (the disruption controller) counts anew when the pod is gone.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use serde_json::{Value, json};

use super::options::{DeleteOptions, ListOptions, Query, WriteOptions};
use super::status::Status;
use super::type_meta::of_kind;
use super::update::Part;
use super::{Api, Leaving, Place, TRIES};
use crate::meta::object::{Meta, MetaMut};
use crate::meta::selector::Selector;
use crate::meta::time::Time;
use crate::registry::column::{has_condition, items, number, text};
use crate::registry::defaults::child;

/// How many evicted pods a budget may note that its keeper has not seen yet.
const MOST_NOTED: usize = 2000;
/// After how many seconds somebody who was refused for a budget that is not settled should ask again.
const UNSETTLED_SECONDS: u32 = 10;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What budgets have to do with a pod.
#[derive(Debug, PartialEq, Eq)]
enum Protection {
    /// It has ended, or is about to go.
    None,
    /// It does not serve yet: it may go as long as that stays so.
    Unready,
    /// Budgets decide.
    Budget,
}

impl Api {
    /// Deletes a pod if its disruption budget allows it.
    pub async fn evict(
        &self,
        place: &Place,
        mut body: Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        of_kind(&mut body, "policy/v1", "Eviction")?;
        let named = text(&body, "/metadata/name");
        if !named.is_empty() && named != place.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut deletion = DeleteOptions::of(&Query::default(), body.get("deleteOptions"))?;
        deletion.dry_run |= options.dry_run;
        deletion.user.clone_from(&options.user);
        deletion.evicts = true;
        for _ in 0..TRIES {
            let pod = self.get(place).await?;
            // who may not delete it does not spend what others may
            let user = options.user.as_deref();
            self.part(&Leaving { place, object: &pod, user, evicted: true }).await?;
            let unready = match protection(&pod) {
                Protection::None => false,
                Protection::Unready => true,
                Protection::Budget => self.spend(place, &pod, deletion.dry_run).await?,
            };
            let revision = Meta::of(&pod).resource_version().to_owned();
            let once = DeleteOptions {
                revision: deletion.revision.clone().or(unready.then_some(revision)),
                ..deletion.clone()
            };
            match self.tell_and_delete(place, &once).await {
                // it may serve by now, and then budgets decide
                Err(status) if unready && status.reason() == "Conflict" => {}
                Err(status) => return Err(status),
                Ok(()) => return Ok(done()),
            }
        }
        Err(Status::too_many_requests(REFUSED, UNSETTLED_SECONDS))
    }

    /// Spends a pod's budget. The flag is set when the pod may go without, as long as it is not ready.
    async fn spend(&self, place: &Place, pod: &Value, dry_run: bool) -> Result<bool, Status> {
        let Some(kind) = self.registry.at("policy", "v1", "poddisruptionbudgets") else {
            return Ok(false);
        };
        let all = Place { kind, namespace: place.namespace.clone(), name: String::new() };
        let found = self.list(&all, &ListOptions::default()).await?.objects;
        let mut budgets = found.iter().filter(|budget| selects(budget, pod));
        let Some(budget) = budgets.next() else { return Ok(false) };
        if budgets.next().is_some() {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, "InternalError", why));
        }
        if may_go_unready(budget, pod) {
            return Ok(true);
        }
        let of = Place { name: Meta::of(budget).name().to_owned(), ..all };
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        let now = Time::now().to_string();
        self.modify(&of, Part::Status, None, &options, |budget| spent(budget, &place.name, &now))
            .await?;
        Ok(false)
    }

    /// Notes in the pod why it goes, for controllers that tell a disruption from a failure, and deletes it.
    async fn tell_and_delete(&self, place: &Place, options: &DeleteOptions) -> Result<(), Status> {
        let mut options = options.clone();
        if !options.dry_run {
            let expected = options.revision.as_deref().and_then(|revision| revision.parse().ok());
            let writes = WriteOptions::default();
            let pod = self
                .modify(place, Part::Status, expected, &writes, |pod| Ok(disrupted(pod)))
                .await?;
            let revision = Meta::of(&pod).resource_version().to_owned();
            options.revision = options.revision.map(|_| revision);
        }
        self.delete(place, &options).await.map(drop)
    }
}

fn done() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

fn protection(pod: &Value) -> Protection {
    let going = Meta::of(pod).deletion_timestamp().is_some();
    match text(pod, "/status/phase") {
        _ if going => Protection::None,
        "Succeeded" | "Failed" => Protection::None,
        "Pending" => Protection::Unready,
        _ => Protection::Budget,
    }
}

fn selects(budget: &Value, pod: &Value) -> bool {
    let selector = budget.pointer("/spec/selector").unwrap_or(&Value::Null);
    Selector::from_object(selector)
        .is_ok_and(|selector| selector.matches_labels(Meta::of(pod).labels()))
}

/// A pod that is not ready is no loss: always, or while enough others are healthy.
fn may_go_unready(budget: &Value, pod: &Value) -> bool {
    let always = text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow";
    let [is, wanted] = ["currentHealthy", "desiredHealthy"]
        .map(|field| number(&budget["status"], &format!("/{field}")));
    !has_condition(pod, "Ready") && (always || (is >= wanted && wanted > 0))
}

/// A budget after one pod more was let go, or why none may.
fn spent(budget: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let (name, status) = (Meta::of(budget).name(), &budget["status"]);
    let refused = |seconds: u32, why: String| {
        let cause = json!({"reason": "DisruptionBudget", "message": why});
        Err(Status::too_many_requests(REFUSED, seconds).with_causes(vec![cause]))
    };
    let allowed = number(status, "/disruptionsAllowed");
    let noted =
        status.get("disruptedPods").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    if number(status, "/observedGeneration") < Meta::of(budget).generation() {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return refused(UNSETTLED_SECONDS, why);
    }
    if allowed <= 0 || noted > MOST_NOTED {
        let [wanted, is] =
            ["/desiredHealthy", "/currentHealthy"].map(|field| number(status, field));
        let why = format!(
            "The disruption budget {name} needs {wanted} healthy pods and has {is} currently"
        );
        return refused(0, why);
    }
    let mut new = budget.clone();
    MetaMut::of(&mut new).remove("resourceVersion");
    new["status"]["disruptionsAllowed"] = json!(allowed - 1);
    if let Some(noted) = child(&mut new["status"], "disruptedPods") {
        noted[pod] = json!(now);
    }
    if allowed == 1 {
        set_condition(
            &mut new,
            json!({
                "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
                "observedGeneration": number(status, "/observedGeneration"), "lastTransitionTime": now,
            }),
        );
    }
    Ok(new)
}

fn disrupted(pod: &Value) -> Value {
    let mut new = pod.clone();
    MetaMut::of(&mut new).remove("resourceVersion");
    set_condition(
        &mut new,
        json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": Time::now().to_string(),
        }),
    );
    new
}

/// Puts a condition in the place of the one of its type. One that says the same stays, with its time.
fn set_condition(object: &mut Value, condition: Value) {
    let mut all = items(object, "/status/conditions").to_vec();
    let same = |one: &Value| one["type"] == condition["type"];
    if all.iter().any(|one| same(one) && one["status"] == condition["status"]) {
        return;
    }
    all.retain(|one| !same(one));
    all.push(condition);
    if let Some(status) = child(object, "status") {
        status["conditions"] = all.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64) -> Value {
        json!({
            "metadata": {"name": "calm", "generation": 2, "resourceVersion": "7"},
            "status": {"observedGeneration": 2, "disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 1},
        })
    }

    fn why(budget: &Value) -> String {
        let status = spent(budget, "p", "now").expect_err("refused").to_value();
        status["details"]["causes"][0]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn an_allowance_is_spent_once() {
        let one = spent(&budget(2), "a", "now").unwrap();
        assert_eq!(one["status"]["disruptionsAllowed"], 1);
        assert!(one["status"].get("conditions").is_none());
        let none = spent(&one, "b", "later").unwrap();
        assert_eq!(none["status"]["disruptedPods"], json!({"a": "now", "b": "later"}));
        assert_eq!(none["status"]["conditions"][0]["reason"], "InsufficientPods");
        assert_eq!(
            why(&none),
            "The disruption budget calm needs 1 healthy pods and has 2 currently"
        );
    }

    #[test]
    fn a_budget_that_nobody_has_counted_yet_allows_nothing() {
        let mut new = budget(2);
        new["metadata"]["generation"] = json!(3);
        assert_eq!(why(&new), "The disruption budget calm is still being processed by the server.");
        assert_eq!(spent(&new, "p", "now").unwrap_err().retry_after(), Some(10));
    }

    #[test]
    fn pods_that_do_not_serve_are_no_loss() {
        let pod = |phase: &str| json!({"metadata": {}, "status": {"phase": phase}});
        assert_eq!(protection(&pod("Failed")), Protection::None);
        assert_eq!(protection(&pod("Pending")), Protection::Unready);
        assert_eq!(protection(&pod("Running")), Protection::Budget);
        let mut going = pod("Running");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(protection(&going), Protection::None);

        assert!(may_go_unready(&budget(0), &pod("Running")), "enough others are healthy");
        let mut few = budget(0);
        few["status"]["currentHealthy"] = json!(0);
        assert!(!may_go_unready(&few, &pod("Running")));
        few["spec"] = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        assert!(may_go_unready(&few, &pod("Running")));
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(!may_go_unready(&few, &ready));
    }
}
