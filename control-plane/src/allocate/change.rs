//! What a change of a Service may do to its addresses. The sentences are kube-apiserver's.

use serde_json::Value;

use crate::meta::field_error::{FieldError, FieldPath, Mistake};

const FIXED: &str = "may not change once set";

/// What is wrong with the addresses and families of a changed spec. Addresses are added or taken away at the end only, unless the
/// Service comes from, or goes to, a name outside of the cluster.
pub fn mistakes(spec: &Value, before: &Value) -> Vec<FieldError> {
    if [spec, before].iter().any(|one| one["type"] == "ExternalName") {
        return Vec::new();
    }
    let headless = [spec, before].map(|one| list(one, "clusterIPs").first().is_some_and(is_none));
    let mut found = Vec::new();
    if headless != [true, true] {
        found.extend(changed(spec, before, "clusterIPs", "clusterIP"));
    }
    if headless == [false, false] {
        found.extend(changed(spec, before, "ipFamilies", "ipFamily"));
    }
    found
}

fn is_none(address: &Value) -> bool {
    address == "None"
}

fn list<'a>(spec: &'a Value, field: &str) -> &'a [Value] {
    spec[field].as_array().map_or(&[], Vec::as_slice)
}

fn changed(spec: &Value, before: &Value, field: &str, one: &str) -> Vec<FieldError> {
    let (new, old) = (list(spec, field), list(before, field));
    let path = FieldPath::root("spec").field(field);
    let invalid = |index: usize, why: &str| {
        let value = Mistake::Invalid(Value::from(new.to_vec()));
        FieldError::new(path.index(index), value, why)
    };
    let mut found = Vec::new();
    if new.is_empty() && !old.is_empty() {
        found.push(invalid(0, &format!("primary {one} can not be unset")));
    }
    // of lists of the same length each one is compared, of others the first
    let compared = if new.len() == old.len() { new.len() } else { 1 };
    let pairs = new.iter().zip(old).take(compared).enumerate();
    for (index, _) in pairs.filter(|(_, (new, old))| new != old) {
        found.push(invalid(index, FIXED));
    }
    let policy = &spec["ipFamilyPolicy"];
    if new.len() == 1 && old.len() > 1 && policy != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        let path = FieldPath::root("spec").field("ipFamilyPolicy");
        found.push(FieldError::new(path, Mistake::Invalid(policy.clone()), why));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_come_and_go_at_the_end() {
        let spec = |addresses: &[&str], families: &[&str], policy: &str| json!({"clusterIPs": addresses, "ipFamilies": families, "ipFamilyPolicy": policy});
        let told = |new: &Value, old: &Value| {
            mistakes(new, old).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let one = spec(&["10.0.0.1"], &["IPv4"], "SingleStack");
        let two = spec(&["10.0.0.1", "fd00::1"], &["IPv4", "IPv6"], "PreferDualStack");
        let headless = spec(&["None"], &["IPv4"], "SingleStack");
        assert!(told(&two, &one).is_empty() && told(&one, &two).is_empty());
        assert!(told(&headless, &spec(&["None"], &["IPv6"], "SingleStack")).is_empty());
        assert_eq!(
            told(&spec(&["10.0.0.1", "fd00::2"], &["IPv4", "IPv6"], ""), &two),
            [
                r#"spec.clusterIPs[1]: Invalid value: ["10.0.0.1","fd00::2"]: may not change once set"#
            ]
        );
        assert_eq!(
            told(&headless, &one),
            [r#"spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set"#]
        );
        assert_eq!(
            told(&spec(&["fd00::1"], &["IPv6"], "PreferDualStack"), &two),
            [
                r#"spec.clusterIPs[0]: Invalid value: ["fd00::1"]: may not change once set"#,
                r#"spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be set to 'SingleStack' when releasing the secondary clusterIP"#,
                r#"spec.ipFamilies[0]: Invalid value: ["IPv6"]: may not change once set"#,
                r#"spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be set to 'SingleStack' when releasing the secondary ipFamily"#,
            ]
        );
        assert_eq!(
            told(&spec(&[], &["IPv4"], "SingleStack"), &one),
            ["spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset"]
        );
        let away = json!({"type": "ExternalName"});
        assert!(told(&away, &one).is_empty() && told(&headless, &away).is_empty());
    }
}
