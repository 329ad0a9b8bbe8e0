//! A stock client's informer.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::runtime::watcher::{Config, Event, InitialListStrategy, watcher};

use crate::client::Fixture;

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

async fn follows(config: Config) {
    let server = Fixture::new().await;
    let address = format!("http://{}", server.running.address).parse().expect("an address");
    let client = kube::Client::try_from(kube::Config::new(address)).expect("a client");
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    for index in 0..25 {
        maps.create(&PostParams::default(), &map(&format!("old-{index}"))).await.expect("made");
    }
    let mut events = watcher(maps.clone(), config).boxed();
    let mut known = BTreeSet::new();
    let mut started = false;
    let limit = Duration::from_mins(1);
    while !(started && known.contains("new") && !known.contains("old-3")) {
        let event = tokio::time::timeout(limit, events.try_next()).await.expect("an event in time");
        match event.expect("no error").expect("no end") {
            Event::Init => known.clear(),
            Event::InitApply(object) | Event::Apply(object) => {
                assert!(known.insert(object.metadata.name.unwrap_or_default()), "told twice");
            }
            Event::InitDone => {
                assert_eq!(known.len(), 25);
                started = true;
                maps.create(&PostParams::default(), &map("new")).await.expect("made");
                maps.delete("old-3", &DeleteParams::default()).await.expect("deleted");
            }
            Event::Delete(object) => {
                assert!(known.remove(&object.metadata.name.unwrap_or_default()));
            }
        }
    }
    assert_eq!(known.len(), 25);
}

#[tokio::test]
async fn an_informer_that_lists_in_pages_follows() {
    follows(Config::default().page_size(10)).await;
}

#[tokio::test]
async fn an_informer_that_streams_its_list_follows() {
    let strategy = InitialListStrategy::StreamingList;
    follows(Config { initial_list_strategy: strategy, page_size: None, ..Config::default() }).await;
}
