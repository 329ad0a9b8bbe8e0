//! Profiles by field and by annotation.

use serde_json::{Value, json};

use super::super::spec::tests::{all_told, pod};
use super::*;

fn found(check: impl Fn(&Spot<'_>, &mut Findings), object: &Value) -> Vec<String> {
    let mut findings = Findings::default();
    check(&Spot::root(object), &mut findings);
    findings.into_vec().iter().map(ToString::to_string).collect()
}

/// A pod of one container `a`: its annotation of `AppArmor`, its own profile, and the whole pod's.
fn armored(said: &str, own: Value, whole: Value) -> Value {
    let mut annotations = json!({});
    if said != "none" {
        annotations[format!("{APPARMOR}a")] = json!(said);
    }
    json!({"metadata": {"annotations": annotations}, "spec": {"securityContext": {"appArmorProfile": whole},
        "containers": [{"name": "a", "securityContext": {"appArmorProfile": own}}]}})
}

fn local(file: &str) -> Value {
    json!({"type": "Localhost", "localhostProfile": file})
}

#[test]
fn fields_name_profiles() {
    let with = |field: &str, profile: Value| pod(json!({"securityContext": {field: profile}}));
    let place = |field: &str| format!("spec.securityContext.{field}");
    for (field, profile, expected) in [
        (
            "seccompProfile",
            json!({}),
            ".type: Required value: type is required when seccompProfile is set",
        ),
        (
            "appArmorProfile",
            json!({}),
            ".type: Required value: type is required when appArmorProfile is set",
        ),
        (
            "appArmorProfile",
            json!({"type": "Some"}),
            r#".type: Unsupported value: "Some": supported values: "Localhost", "RuntimeDefault", "Unconfined""#,
        ),
        (
            "seccompProfile",
            json!({"type": "Localhost"}),
            ".localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            "seccompProfile",
            local("/a"),
            r#".localhostProfile: Invalid value: "/a": must be a relative path"#,
        ),
        (
            "appArmorProfile",
            json!({"type": "Localhost"}),
            ".localhostProfile: Required value: must be set when AppArmor type is Localhost",
        ),
        (
            "appArmorProfile",
            local(" a"),
            r#".localhostProfile: Invalid value: " a": must not be padded with whitespace"#,
        ),
        (
            "appArmorProfile",
            local(&"a".repeat(4096)),
            ".localhostProfile: Too long: may not be more than 4095 bytes",
        ),
        (
            "appArmorProfile",
            json!({"type": "Unconfined", "localhostProfile": "a"}),
            r#".localhostProfile: Invalid value: "a": can only be set when AppArmor type is Localhost"#,
        ),
    ] {
        let line = place(field) + expected;
        all_told(&[(with(field, profile), &[line.as_str()])]);
    }
    all_told(&[(with("appArmorProfile", local("/a/..")), &[])]);
}

#[test]
fn annotations_name_profiles_of_containers() {
    let spec = json!({"containers": [{"name": "a"}]});
    let told = |annotations: Value| {
        found(
            |root, findings| {
                let spot =
                    Spot::at(root.value, crate::meta::field_error::FieldPath::root("annotations"));
                check_annotations(&spot, &Spot::root(&spec), findings);
            },
            &annotations,
        )
    };
    let (seccomp, armor) = (format!("{OF_CONTAINER}a"), format!("{APPARMOR}a"));
    for good in ["runtime/default", "docker/default", "unconfined", "localhost/a"] {
        assert!(told(json!({OF_POD: good, seccomp.as_str(): good})).is_empty(), "{good}");
    }
    for good in ["", "runtime/default", "unconfined", "localhost/"] {
        assert!(told(json!({armor.as_str(): good})).is_empty(), "{good}");
    }
    assert_eq!(
        told(json!({OF_POD: "x", seccomp.as_str(): "localhost/../b"})),
        [
            r#"annotations.container.seccomp.security.alpha.kubernetes.io/a: Invalid value: "../b": must not contain '..'"#,
            r#"annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "x": must be a valid seccomp profile"#,
        ]
    );
    assert_eq!(
        told(json!({format!("{APPARMOR}b"): "some"})),
        [
            r#"annotations[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: "b": container not found"#,
            r#"annotations[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: "some": invalid AppArmor profile name: "some""#,
        ]
    );
}

#[test]
fn annotation_and_field_agree() {
    let place = "spec.containers[0].securityContext.appArmorProfile";
    let kind = format!("{place}.type: Forbidden: apparmor type in annotation and field must match");
    let file = format!(
        "{place}.localhostProfile: Forbidden: apparmor profile in annotation and field must match"
    );
    let (default, free) = (json!({"type": "RuntimeDefault"}), json!({"type": "Unconfined"}));
    for (said, own, whole, expected) in [
        ("none", default.clone(), Value::Null, None),
        ("runtime/default", default.clone(), free.clone(), None),
        ("unconfined", default.clone(), Value::Null, Some(&kind)),
        ("localhost/a", local("a"), Value::Null, None),
        ("localhost/b", local("a"), Value::Null, Some(&file)),
        ("runtime/default", local("a"), Value::Null, Some(&kind)),
        // it becomes the container's own
        ("unconfined", Value::Null, default.clone(), None),
        ("", Value::Null, default.clone(), Some(&kind)),
    ] {
        let pod = armored(said, own, whole);
        let told = found(check_agreement, &pod);
        assert_eq!(told, expected.cloned().into_iter().collect::<Vec<_>>(), "{pod}");
    }
    let seccomp = |said: &str, kind: &str| {
        json!({"metadata": {"annotations": {OF_POD: said, format!("{OF_CONTAINER}a"): said}},
            "spec": {"securityContext": {"seccompProfile": {"type": kind}},
                "containers": [{"name": "a", "securityContext": {"seccompProfile": local("x")}}]}})
    };
    assert_eq!(
        found(check_agreement, &seccomp("docker/default", "RuntimeDefault")),
        [
            "spec.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"
        ]
    );
    assert_eq!(
        found(check_agreement, &seccomp("localhost/y", "Unconfined")),
        [
            "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Forbidden: seccomp profile in annotation and field must match",
        ]
    );
}

#[test]
fn annotations_become_fields_and_fields_annotations() {
    let (default, free) = (json!({"type": "RuntimeDefault"}), json!({"type": "Unconfined"}));
    let none = Value::Null;
    for (said, own, whole, warned, then_said, then_own) in [
        ("none", none.clone(), none.clone(), 0, "none", none.clone()),
        ("none", local("a"), free.clone(), 0, "localhost/a", local("a")),
        ("none", none.clone(), default.clone(), 0, "runtime/default", none.clone()),
        ("unconfined", none.clone(), default.clone(), 1, "unconfined", free.clone()),
        ("localhost/b", none.clone(), none.clone(), 1, "localhost/b", local("b")),
        // the pod says it already
        ("unconfined", none.clone(), free.clone(), 0, "unconfined", none.clone()),
        ("unconfined", free.clone(), none.clone(), 0, "unconfined", free.clone()),
        ("", none.clone(), none.clone(), 1, "", none.clone()),
        ("localhost/ a", none.clone(), none.clone(), 1, "localhost/ a", none.clone()),
    ] {
        let mut pod = armored(said, own, whole.clone());
        let told = apparmor_warnings(&pod);
        assert_eq!(told.len(), warned, "{pod}: {told:?}");
        settle_apparmor(&mut pod);
        assert_eq!(pod, armored(then_said, then_own, whole), "{said}");
    }
    let mut windows = armored("none", free, none);
    windows["spec"]["os"] = json!({"name": "windows"});
    let before = windows.clone();
    settle_apparmor(&mut windows);
    assert_eq!(windows, before);
}
