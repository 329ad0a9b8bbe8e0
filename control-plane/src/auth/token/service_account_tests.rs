//! Tokens from their request to their end.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::token::jwt::tests::fresh;
use crate::auth::token::request::{self, RequestError};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// Objects by `resource/namespace/name`.
#[derive(Clone, Default)]
pub struct Fixed(pub BTreeMap<String, Value>);

#[async_trait::async_trait]
impl Objects for Fixed {
    async fn get(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, String> {
        Ok(self.0.get(&format!("{resource}/{namespace}/{name}")).cloned())
    }
}

fn object(namespace: &str, name: &str, uid: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace, "uid": uid}})
}

fn scene() -> (TokenAuthority, Fixed) {
    let mut pod = object("dev", "web", "p1");
    pod["spec"] = json!({"serviceAccountName": "builder", "nodeName": "n1"});
    let objects = Fixed(BTreeMap::from([
        ("serviceaccounts/dev/builder".to_owned(), object("dev", "builder", "s1")),
        ("serviceaccounts/dev/other".to_owned(), object("dev", "other", "s2")),
        ("pods/dev/web".to_owned(), pod),
        ("secrets/dev/legacy".to_owned(), object("dev", "legacy", "k1")),
        ("nodes//n1".to_owned(), object("", "n1", "n-uid")),
    ]));
    let authority = TokenAuthority {
        keys: fresh().0,
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
        audiences: vec!["https://kubernetes.default.svc.cluster.local".to_owned()],
        longest: 86_400,
    };
    (authority, objects)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn ask(
    authority: &TokenAuthority,
    objects: &Fixed,
    account: &str,
    spec: Value,
) -> Result<Value, RequestError> {
    let mut asked =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    request::default(&mut asked, authority);
    request::validate(&asked)?;
    let reference = request::reference(&asked)?;
    let bound = reference.and_then(|it| {
        let namespace = if it.kind == BoundKind::Node { "" } else { "dev" };
        objects.0.get(&format!("{}/{namespace}/{}", it.kind.resource(), it.name))
    });
    let account = &objects.0[&format!("serviceaccounts/dev/{account}")];
    request::issue(authority, &asked, account, bound, objects.0.get("nodes//n1"), NOW)
}

fn token(answer: &Value) -> &str {
    answer["status"]["token"].as_str().unwrap()
}

fn bound(kind: &str, name: &str, uid: &str) -> Value {
    json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}})
}

#[test]
fn a_request_is_answered_with_a_token_that_holds() {
    let (authority, objects) = scene();
    let answer = ask(&authority, &objects, "builder", bound("Pod", "web", "p1")).unwrap();
    assert_eq!(answer["status"]["expirationTimestamp"], "2027-01-15T09:00:00Z");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"], json!(authority.audiences));
    let claims = authority.keys.verify(token(&answer)).unwrap();
    assert_eq!(
        claims["kubernetes.io"],
        json!({
            "namespace": "dev",
            "serviceaccount": {"name": "builder", "uid": "s1"},
            "pod": {"name": "web", "uid": "p1"},
            "node": {"name": "n1", "uid": "n-uid"},
        })
    );
    assert_eq!(claims["exp"], NOW.as_second() + 3600);
    let verified = run(authority.verify(token(&answer), &[], &objects, NOW)).unwrap();
    assert_eq!(verified.audiences, authority.audiences);
    let user = verified.user;
    assert_eq!(
        (user.name.as_str(), user.uid.as_str()),
        ("system:serviceaccount:dev:builder", "s1")
    );
    let extra: Vec<_> =
        user.extra.iter().map(|(key, value)| format!("{key}={}", value[0])).collect();
    assert!(extra[0].starts_with("authentication.kubernetes.io/credential-id=JTI="));
    assert_eq!(
        extra[1..],
        [
            "authentication.kubernetes.io/node-name=n1",
            "authentication.kubernetes.io/node-uid=n-uid",
            "authentication.kubernetes.io/pod-name=web",
            "authentication.kubernetes.io/pod-uid=p1",
        ]
    );
}

#[test]
fn requests_that_cannot_be_are_refused_as_upstream() {
    let (authority, objects) = scene();
    let cases = [
        (
            "builder",
            json!({"expirationSeconds": 599}),
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            "builder",
            json!({"expirationSeconds": 4_294_967_297_i64}),
            "spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ),
        (
            "builder",
            bound("ConfigMap", "x", ""),
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        ("builder", bound("Pod", "none", ""), r#"pods "none" not found"#),
        (
            "other",
            bound("Pod", "web", "p1"),
            r#"cannot bind token for serviceaccount "other" to pod running with different serviceaccount name."#,
        ),
        (
            "builder",
            bound("Pod", "web", "p0"),
            r#"Operation cannot be fulfilled on Pod "web": the UID in the bound object reference (p0) does not match the UID in record. The object might have been deleted and then recreated"#,
        ),
    ];
    for (account, spec, expected) in cases {
        let refused = ask(&authority, &objects, account, spec).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    let long =
        ask(&authority, &objects, "builder", json!({"expirationSeconds": 1_000_000})).unwrap();
    assert_eq!(long["spec"]["expirationSeconds"], 86_400, "cut to the longest that is issued");
    let named = json!({"metadata": {"name": "builder", "namespace": "dev"}});
    assert_eq!(request::check_names(&named, "dev", "builder"), Ok(()));
    assert!(request::check_names(&named, "prod", "builder").is_err());
}

#[test]
fn a_token_ends_with_its_time_and_not_before() {
    let (authority, objects) = scene();
    let answer = ask(&authority, &objects, "builder", json!({"expirationSeconds": 600})).unwrap();
    let at = |seconds: i64| Timestamp::from_second(NOW.as_second() + seconds).unwrap();
    let check = |seconds| run(authority.verify(token(&answer), &[], &objects, at(seconds)));
    assert!(check(0).is_ok() && check(600).is_ok());
    assert!(check(-9).is_ok() && check(609).is_ok(), "clocks differ a little");
    assert!(matches!(check(611), Err(TokenError::Expired(_))));
    assert!(matches!(check(-60), Err(TokenError::Early(_))));
}

#[test]
fn a_token_is_for_its_audiences() {
    let (authority, objects) = scene();
    let spec = json!({"audiences": ["vault", "other"]});
    let answer = ask(&authority, &objects, "builder", spec).unwrap();
    let check = |audiences: &[&str]| {
        let audiences: Vec<_> = audiences.iter().map(|&one| one.to_owned()).collect();
        run(authority.verify(token(&answer), &audiences, &objects, NOW))
    };
    assert!(matches!(check(&[]), Err(TokenError::Audience { .. })), "not for this server");
    assert_eq!(check(&["x", "vault"]).unwrap().audiences, ["vault"]);
}

#[test]
fn a_token_ends_with_what_it_is_bound_to() {
    let (authority, objects) = scene();
    let kinds = [
        (bound("Pod", "web", ""), "pods/dev/web"),
        (bound("Secret", "legacy", ""), "secrets/dev/legacy"),
        (bound("Node", "n1", ""), "nodes//n1"),
        (json!({}), "serviceaccounts/dev/builder"),
    ];
    for (spec, key) in kinds {
        let answer = ask(&authority, &objects, "builder", spec).unwrap();
        let check = |objects: &Fixed| run(authority.verify(token(&answer), &[], objects, NOW));
        assert!(check(&objects).is_ok(), "{key}");
        let why = |objects: &Fixed| match check(objects) {
            Err(TokenError::Invalidated { why, .. }) => why,
            other => panic!("{key}: {other:?}"),
        };
        let mut gone = objects.clone();
        gone.0.remove(key);
        assert_eq!(why(&gone), "does not exist any more");
        let mut again = objects.clone();
        again.0.get_mut(key).unwrap()["metadata"]["uid"] = json!("another");
        assert_eq!(why(&again), "was deleted and made anew");
        let mut going = objects.clone();
        let metadata = &mut going.0.get_mut(key).unwrap()["metadata"];
        metadata["deletionTimestamp"] = json!("2027-01-15T07:59:30Z");
        assert!(check(&going).is_ok(), "{key} is shutting down");
        going.0.get_mut(key).unwrap()["metadata"]["deletionTimestamp"] =
            json!("2027-01-15T07:58:59Z");
        assert_eq!(why(&going), "is being deleted");
    }
    let answer = ask(&authority, &objects, "builder", bound("Pod", "web", "")).unwrap();
    let mut moved = objects.clone();
    moved.0.remove("nodes//n1");
    assert!(run(authority.verify(token(&answer), &[], &moved, NOW)).is_ok(), "the pod decides");
}

#[test]
fn what_others_sign_with_our_key_or_for_another_issuer_is_refused() {
    let (authority, objects) = scene();
    let good = authority
        .keys
        .verify(token(&ask(&authority, &objects, "builder", json!({})).unwrap()))
        .unwrap();
    let bend = |pointer: &str, value: Value| {
        let mut claims = good.clone();
        *claims.pointer_mut(pointer).unwrap() = value;
        run(authority.verify(&authority.keys.sign(&claims), &[], &objects, NOW))
    };
    let one = bend("/aud", json!("https://kubernetes.default.svc.cluster.local"));
    assert!(one.is_ok(), "one audience need not be a list: {one:?}");
    for (pointer, value) in [
        ("/iss", json!("https://elsewhere")),
        ("/sub", json!("system:serviceaccount:kube-system:admin")),
        ("/kubernetes.io/serviceaccount/uid", json!("")),
        ("/kubernetes.io/serviceaccount/name", json!("admin")),
        ("/kubernetes.io/namespace", json!(7)),
        ("/exp", json!("tomorrow")),
    ] {
        let refused = bend(pointer, value);
        assert!(matches!(refused, Err(TokenError::Claims(_))), "{pointer}: {refused:?}");
    }
    assert!(bend("/exp", json!(i64::MAX)).is_ok());
    assert!(bend("/nbf", json!(i64::MIN)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Signed claims of any shape are an error or a user, never a panic.
    #[test]
    fn claims_of_any_shape_are_no_panic(numbers: [i64; 3], text in "\\PC{0,20}", shape in 0..4u8) {
        let (authority, objects) = scene();
        let private = match shape {
            0 => json!(null),
            1 => json!({"namespace": text, "serviceaccount": {"name": text}}),
            2 => json!({"namespace": "dev", "serviceaccount": {"name": "builder", "uid": "s1"}, "pod": {"name": text}}),
            _ => json!([text]),
        };
        let claims = json!({"iss": authority.issuer, "sub": "system:serviceaccount:dev:builder", "aud": authority.audiences,
            "exp": numbers[0], "nbf": numbers[1], "iat": numbers[2], "kubernetes.io": private});
        prop_assert!(run(authority.verify(&authority.keys.sign(&claims), &[], &objects, NOW)).is_err());
    }
}
