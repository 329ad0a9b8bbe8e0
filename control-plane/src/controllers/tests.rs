//! Controllers over a store in memory: what they make of what clients do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::account::DefaultAccount;
use super::event::Expiry;
use super::garbage::Garbage;
use super::kubernetes::{Kubernetes, be_present, make_namespaces};
use super::leader::lead;
use super::namespace::Emptying;
use super::root_ca::{NAME as ROOT_CA, RootCa};
use super::{Controller, NAMESPACES, if_found, place, spawn};
use crate::api::options::{DeleteOptions, Propagation, WriteOptions};
use crate::api::status::Status;
use crate::api::update::Part;
use crate::api::{Api, Place};
use crate::meta::object::{Meta, MetaMut};
use crate::registry::Registry;
use crate::store::memory::MemoryStore;

const CONFIG_MAPS: (&str, &str, &str) = ("", "v1", "configmaps");
const ACCOUNTS: (&str, &str, &str) = ("", "v1", "serviceaccounts");

fn api() -> Arc<Api> {
    Arc::new(Api::new(Arc::new(MemoryStore::default()), Arc::new(Registry::built_in())))
}

fn all() -> Vec<Arc<dyn Controller>> {
    vec![
        Arc::new(DefaultAccount),
        Arc::new(RootCa { certificate: "the certificate".to_owned() }),
        Arc::new(Emptying),
        Arc::new(Garbage::default()),
        Arc::new(Expiry { life: Duration::from_hours(1) }),
        Arc::new(Kubernetes { cluster_ip: "10.96.0.1".parse().expect("an address"), port: 6443 }),
    ]
}

async fn get(
    api: &Api,
    resource: (&str, &str, &str),
    namespace: &str,
    name: &str,
) -> Option<Value> {
    if_found(api.get(&place(api, resource, namespace, name).expect("a kind")).await)
        .expect("an answer")
}

async fn create(api: &Api, resource: (&str, &str, &str), namespace: &str, object: Value) -> Value {
    let place = place(api, resource, namespace, "").expect("a kind");
    api.create(&place, object, &WriteOptions::default())
        .await
        .unwrap_or_else(|status| panic!("{}", status.message()))
}

async fn make_namespace(api: &Api, name: &str) {
    create(api, NAMESPACES, "", json!({"metadata": {"name": name}})).await;
}

async fn delete(api: &Api, place: &Place, propagation: Option<Propagation>) -> Result<(), Status> {
    api.delete(place, &DeleteOptions { propagation, ..DeleteOptions::default() }).await.map(|_| ())
}

/// Waits until something is as it should be.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {what}");
}

/// A `ConfigMap` that belongs to others (name, uid).
fn owned(name: &str, owners: &[(&str, &str)], blocks: bool) -> Value {
    let references: Vec<Value> = owners
        .iter()
        .map(|(name, uid)| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": blocks})
        })
        .collect();
    json!({"metadata": {"name": name, "ownerReferences": references}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_furnished_and_stays_so() {
    let api = api();
    let _running = spawn(&api, all());
    make_namespace(&api, "shop").await;
    until("the account", async || get(&api, ACCOUNTS, "shop", "default").await).await;
    until("the certificate", async || get(&api, CONFIG_MAPS, "shop", ROOT_CA).await).await;
    let account = place(&api, ACCOUNTS, "shop", "default").expect("a kind");
    delete(&api, &account, None).await.expect("deleted");
    let map = place(&api, CONFIG_MAPS, "shop", ROOT_CA).expect("a kind");
    let spoil = |old: &Value| {
        let mut new = old.clone();
        new["data"] = json!({"ca.crt": "another", "more": "of it"});
        Ok(new)
    };
    api.modify(&map, Part::Main, None, &WriteOptions::default(), spoil).await.expect("spoilt");
    until("the account again", async || get(&api, ACCOUNTS, "shop", "default").await).await;
    until("the certificate again", async || {
        get(&api, CONFIG_MAPS, "shop", ROOT_CA)
            .await
            .filter(|map| map["data"] == json!({"ca.crt": "the certificate"}))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_is_emptied_and_says_what_keeps_it() {
    let api = api();
    let _running = spawn(&api, all());
    make_namespace(&api, "shop").await;
    create(&api, CONFIG_MAPS, "shop", json!({"metadata": {"name": "a"}})).await;
    create(
        &api,
        CONFIG_MAPS,
        "shop",
        json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}),
    )
    .await;
    let namespace = place(&api, NAMESPACES, "", "shop").expect("a kind");
    delete(&api, &namespace, None).await.expect("deleted");
    let told = until("the reason", async || {
        let found = get(&api, NAMESPACES, "", "shop").await.expect("it is held");
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .into_iter()
            .find(|one| one["type"] == "NamespaceFinalizersRemaining" && one["status"] == "True")
    })
    .await;
    assert_eq!(
        told["message"],
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
    let refused = api
        .create(
            &place(&api, CONFIG_MAPS, "shop", "").expect("a kind"),
            json!({"metadata": {"name": "late"}}),
            &WriteOptions::default(),
        )
        .await
        .expect_err("the namespace ends");
    assert!(refused.message().contains("because it is being terminated"), "{}", refused.message());
    let held = place(&api, CONFIG_MAPS, "shop", "held").expect("a kind");
    let let_go = |old: &Value| {
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!([]);
        Ok(new)
    };
    api.modify(&held, Part::Main, None, &WriteOptions::default(), let_go).await.expect("let go");
    until("the end", async || get(&api, NAMESPACES, "", "shop").await.is_none().then_some(()))
        .await;
    assert_eq!(get(&api, CONFIG_MAPS, "shop", "a").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_what_is_gone_goes() {
    let api = api();
    let _running = spawn(&api, all());
    make_namespace(&api, "shop").await;
    let uid = |object: &Value| Meta::of(object).uid().to_owned();
    let one = uid(&create(&api, CONFIG_MAPS, "shop", json!({"metadata": {"name": "one"}})).await);
    let two = uid(&create(&api, CONFIG_MAPS, "shop", json!({"metadata": {"name": "two"}})).await);
    create(&api, CONFIG_MAPS, "shop", owned("child", &[("one", &one)], false)).await;
    create(&api, CONFIG_MAPS, "shop", owned("shared", &[("one", &one), ("two", &two)], false))
        .await;
    create(&api, CONFIG_MAPS, "shop", owned("stray", &[("never", "there")], false)).await;
    until("the stray's end", async || {
        get(&api, CONFIG_MAPS, "shop", "stray").await.is_none().then_some(())
    })
    .await;
    delete(
        &api,
        &place(&api, CONFIG_MAPS, "shop", "one").expect("a kind"),
        Some(Propagation::Background),
    )
    .await
    .expect("deleted");
    until("the child's end", async || {
        get(&api, CONFIG_MAPS, "shop", "child").await.is_none().then_some(())
    })
    .await;
    let shared = until("one owner less", async || {
        get(&api, CONFIG_MAPS, "shop", "shared")
            .await
            .filter(|map| Meta::of(map).owner_references().len() == 1)
    })
    .await;
    assert_eq!(Meta::of(&shared).owner_references()[0].uid, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_foreground_the_owner_goes_last_and_orphans_live_on() {
    let api = api();
    let _running = spawn(&api, all());
    make_namespace(&api, "shop").await;
    let uid = |object: &Value| Meta::of(object).uid().to_owned();
    let one = uid(&create(&api, CONFIG_MAPS, "shop", json!({"metadata": {"name": "one"}})).await);
    let mut held = owned("child", &[("one", &one)], true);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    create(&api, CONFIG_MAPS, "shop", held).await;
    delete(
        &api,
        &place(&api, CONFIG_MAPS, "shop", "one").expect("a kind"),
        Some(Propagation::Foreground),
    )
    .await
    .expect("deleted");
    until("the child to be on its way out", async || {
        get(&api, CONFIG_MAPS, "shop", "child")
            .await
            .filter(|map| Meta::of(map).deletion_timestamp().is_some())
    })
    .await;
    assert!(get(&api, CONFIG_MAPS, "shop", "one").await.is_some(), "the owner waits");
    let let_go = |old: &Value| {
        let mut new = old.clone();
        MetaMut::of(&mut new).remove_finalizer("example.com/hold");
        Ok(new)
    };
    api.modify(
        &place(&api, CONFIG_MAPS, "shop", "child").expect("a kind"),
        Part::Main,
        None,
        &WriteOptions::default(),
        let_go,
    )
    .await
    .expect("let go");
    for name in ["child", "one"] {
        until(name, async || get(&api, CONFIG_MAPS, "shop", name).await.is_none().then_some(()))
            .await;
    }

    let two = uid(&create(&api, CONFIG_MAPS, "shop", json!({"metadata": {"name": "two"}})).await);
    create(&api, CONFIG_MAPS, "shop", owned("orphan", &[("two", &two)], true)).await;
    delete(
        &api,
        &place(&api, CONFIG_MAPS, "shop", "two").expect("a kind"),
        Some(Propagation::Orphan),
    )
    .await
    .expect("deleted");
    until("the owner's end", async || {
        get(&api, CONFIG_MAPS, "shop", "two").await.is_none().then_some(())
    })
    .await;
    let orphan = get(&api, CONFIG_MAPS, "shop", "orphan").await.expect("it lives on");
    assert!(Meta::of(&orphan).owner_references().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_a_service() {
    let api = api();
    make_namespaces(&api).await.unwrap_or_else(|status| panic!("{}", status.message()));
    let _running = spawn(&api, all());
    let present = api.clone();
    let presence = tokio::spawn(async move {
        be_present(&present, "server-a", "192.0.2.7".parse().expect("an address")).await;
    });
    let slices = ("discovery.k8s.io", "v1", "endpointslices");
    until("its endpoint", async || {
        let slice = get(&api, slices, "default", "kubernetes").await?;
        (slice["endpoints"][0]["addresses"] == json!(["192.0.2.7"])).then_some(())
    })
    .await;
    let service =
        get(&api, ("", "v1", "services"), "default", "kubernetes").await.expect("the service");
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    delete(&api, &place(&api, slices, "default", "kubernetes").expect("a kind"), None)
        .await
        .expect("deleted");
    until("its endpoint again", async || get(&api, slices, "default", "kubernetes").await).await;
    presence.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_at_a_time_runs_the_controllers() {
    let api = api();
    make_namespaces(&api).await.unwrap_or_else(|status| panic!("{}", status.message()));
    let started =
        |name: &'static str, log: Arc<std::sync::Mutex<Vec<&'static str>>>, api: Arc<Api>| {
            tokio::spawn(lead(api.clone(), name.to_owned(), move || {
                log.lock().expect("a log").push(name);
                spawn(&api, Vec::new())
            }))
        };
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let first = started("a", log.clone(), api.clone());
    until("the first", async || (*log.lock().expect("a log") == ["a"]).then_some(())).await;
    let second = started("b", log.clone(), api.clone());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*log.lock().expect("a log"), ["a"]);
    first.abort();
    super::leader::release(&api, "a").await.unwrap_or_else(|status| panic!("{}", status.message()));
    until("the second", async || (*log.lock().expect("a log") == ["a", "b"]).then_some(())).await;
    second.abort();
}
