//! As which service account a pod runs, and how it gets at the account's token (`ServiceAccount`).

use serde_json::{Value, json};

/// Where a token, the authority's certificate and the namespace stand in a container.
pub const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What names of such volumes begin with: a container that mounts one itself gets no second one.
pub const TOKEN_VOLUME: &str = "kube-api-access-";
/// An hour, and what the kubelet needs to renew it.
const TOKEN_SECONDS: i64 = 3607;

/// Why a pod cannot run as the account that it names. Worded as in Kubernetes; the caller puts
/// `pods "name" is forbidden: ` before it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccountError {
    /// No such account.
    #[error(
        "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
    )]
    Missing {
        /// Where it was looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A pod that a kubelet shows the server cannot have an account.
    #[error("a mirror pod may not reference service accounts")]
    Mirror,
}

/// The account that a pod runs as: the one that it names, or `default`.
pub fn name(spec: &Value) -> &str {
    match spec.get("serviceAccountName").and_then(Value::as_str) {
        None | Some("") => "default",
        Some(name) => name,
    }
}

/// Whether a pod is the server's picture of one that a node runs by itself.
pub fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some()
}

/// Gives a pod its account. `account` is the object that [`name`] names, `suffix` five characters that nobody else has.
pub fn admit(
    pod: &mut Value,
    namespace: &str,
    account: Option<&Value>,
    suffix: &str,
) -> Result<(), AccountError> {
    let mirror = is_mirror(pod);
    let Some(spec) = pod.get_mut("spec") else { return Ok(()) };
    if mirror {
        let named = spec
            .get("serviceAccountName")
            .and_then(Value::as_str)
            .is_some_and(|name| !name.is_empty());
        return if named { Err(AccountError::Mirror) } else { Ok(()) };
    }
    let name = name(spec).to_owned();
    let Some(account) = account else {
        return Err(AccountError::Missing { namespace: namespace.to_owned(), name });
    };
    for field in ["serviceAccountName", "serviceAccount"] {
        if let Some(map) = spec.as_object_mut() {
            map.insert(field.to_owned(), json!(name));
        }
    }
    if wants_token(spec, account) {
        mount_token(spec, suffix);
    }
    let has_secrets =
        spec.get("imagePullSecrets").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if let (false, Some(secrets), Some(map)) =
        (has_secrets, account.get("imagePullSecrets"), spec.as_object_mut())
    {
        map.insert("imagePullSecrets".to_owned(), secrets.clone());
    }
    Ok(())
}

/// The pod decides; where it does not, the account does; where nobody does: yes.
fn wants_token(spec: &Value, account: &Value) -> bool {
    let said = |object: &Value| object.get("automountServiceAccountToken").and_then(Value::as_bool);
    said(spec).or_else(|| said(account)).unwrap_or(true)
}

fn mount_token(spec: &mut Value, suffix: &str) {
    let known = volumes(spec).find(|name| name.starts_with(TOKEN_VOLUME)).map(str::to_owned);
    let name = known.clone().unwrap_or_else(|| format!("{TOKEN_VOLUME}{suffix}"));
    let mut used = false;
    for field in ["initContainers", "containers"] {
        let containers = spec.get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            used |= mount_in(container, &name);
        }
    }
    if used
        && known.is_none()
        && let Some(list) = super::list(spec, "volumes")
    {
        list.push(token_volume(&name));
    }
}

fn volumes(spec: &Value) -> impl Iterator<Item = &str> {
    let list = spec.get("volumes").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|volume| volume.get("name")?.as_str())
}

/// Mounts the token, unless something else is mounted at its place.
fn mount_in(container: &mut Value, volume: &str) -> bool {
    let Some(mounts) = super::list(container, "volumeMounts") else { return false };
    let taken = mounts
        .iter()
        .any(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(TOKEN_FOLDER));
    if !taken {
        mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_FOLDER}));
    }
    !taken
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(spec: Value, account: Value) -> Value {
        let mut pod = json!({"spec": spec});
        admit(&mut pod, "default", Some(&account), "abcde").expect("an account");
        pod["spec"].clone()
    }

    #[test]
    fn a_pod_gets_the_default_account_and_its_token() {
        let spec = admitted(
            json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}),
            json!({}),
        );
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["serviceAccount"], "default");
        assert_eq!(spec["volumes"][0]["name"], "kube-api-access-abcde");
        for list in ["containers", "initContainers"] {
            assert_eq!(
                spec[list][0]["volumeMounts"],
                json!([{"name": "kube-api-access-abcde", "readOnly": true, "mountPath": TOKEN_FOLDER}])
            );
        }
    }

    #[test]
    fn nobody_gets_a_token_that_was_not_wanted() {
        let containers = json!([{"name": "a"}]);
        let no = json!({"automountServiceAccountToken": false});
        assert!(admitted(json!({"containers": containers}), no.clone()).get("volumes").is_none());
        let pod_says = json!({"containers": containers, "automountServiceAccountToken": true});
        assert_eq!(admitted(pod_says, no)["volumes"].as_array().map(Vec::len), Some(1));
        let taken = json!({"containers": [{"name": "a", "volumeMounts": [{"name": "own", "mountPath": TOKEN_FOLDER}]}]});
        assert!(admitted(taken, json!({})).get("volumes").is_none());
    }

    #[test]
    fn secrets_of_the_account_are_for_pods_without_their_own() {
        let account = json!({"imagePullSecrets": [{"name": "a"}]});
        assert_eq!(
            admitted(json!({}), account.clone())["imagePullSecrets"],
            json!([{"name": "a"}])
        );
        let own = json!({"imagePullSecrets": [{"name": "b"}]});
        assert_eq!(admitted(own, account)["imagePullSecrets"], json!([{"name": "b"}]));
    }

    #[test]
    fn an_account_that_is_not_there_is_told() {
        let mut pod = json!({"spec": {"serviceAccountName": "robot"}});
        let error = admit(&mut pod, "ns", None, "abcde").expect_err("no account");
        assert_eq!(
            error.to_string(),
            r#"error looking up service account ns/robot: serviceaccount "robot" not found"#
        );
        let mut mirror =
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "1"}}, "spec": {}});
        assert_eq!(admit(&mut mirror, "ns", None, "abcde"), Ok(()));
        assert!(mirror["spec"].get("serviceAccountName").is_none());
    }
}
