//! Which families of addresses a Service has.
//!
//! Kubernetes documentation, "IPv4/IPv6 dual-stack", section Services. The sentences are kube-apiserver's.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::go_value;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the field's own words")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// An address's.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|family| family.as_str() == text)
    }

    const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// What a Service says of its addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub headless: bool,
    pub selector: bool,
    pub policy: Option<String>,
    pub families: Vec<Family>,
    pub addresses: Vec<IpAddr>,
}

/// `spec.ipFamilies` and `spec.ipFamilyPolicy` as they will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub families: Vec<Family>,
    pub policy: String,
}

const SINGLE: &str = "SingleStack";
const REQUIRE: &str = "RequireDualStack";

impl Wishes {
    /// Reads them; what is not well formed is a mistake.
    pub fn read(spec: &Value) -> Result<Self, Vec<FieldError>> {
        let mut mistakes = Vec::new();
        let texts = cluster_ips(spec);
        let headless = texts.first().is_some_and(|text| text == "None");
        check_first(spec, &mut mistakes);
        let families = read_families(spec, &mut mistakes);
        check_policy(spec, &mut mistakes);
        let addresses = read_addresses(&texts, &families, &mut mistakes);
        let selector = spec["selector"].as_object().is_some_and(|selector| !selector.is_empty());
        let policy = spec["ipFamilyPolicy"].as_str().map(ToOwned::to_owned);
        if mistakes.is_empty() {
            Ok(Self { headless, selector, policy, families, addresses })
        } else {
            Err(mistakes)
        }
    }

    /// What follows from them in a cluster that has these families, the default one first.
    pub fn choose(&self, cluster: &[Family]) -> Result<Chosen, Vec<FieldError>> {
        let families = self.inferred(cluster)?;
        let two = self.addresses.len() == 2 || families.len() == 2;
        let said = self.policy.clone();
        if self.headless && !self.selector {
            return Ok(Self::selectorless(families, said, cluster));
        }
        let policy = said.unwrap_or_else(|| if two { REQUIRE } else { SINGLE }.to_owned());
        Self::check(&policy, &families, cluster)?;
        let mut families = families;
        if families.is_empty() {
            families.extend(cluster.first());
        }
        if policy != SINGLE && families.len() == 1 && cluster.len() > 1 {
            families.push(families[0].other());
        }
        Ok(Chosen { families, policy })
    }

    /// The families that are said, and those of addresses that are said.
    fn inferred(&self, cluster: &[Family]) -> Result<Vec<Family>, Vec<FieldError>> {
        let (mut families, mut mistakes) = (self.families.clone(), Vec::new());
        for (index, address) in self.addresses.iter().enumerate().skip(families.len()) {
            let family = Family::of(*address);
            if !cluster.contains(&family) {
                let why = format!("{} is not configured on this cluster", family.as_str());
                let path = field("clusterIPs").index(index);
                mistakes.push(FieldError::new(path, Mistake::Invalid(json!(address)), why));
            }
            families.push(family);
        }
        if self.policy.as_deref() == Some(SINGLE) {
            let both =
                [(self.addresses.len(), "cluster IPs"), (self.families.len(), "IP families")];
            for (_, what) in both.into_iter().filter(|(count, _)| *count == 2) {
                let why = format!(
                    "must be RequireDualStack or PreferDualStack when multiple {what} are specified"
                );
                mistakes.push(invalid_policy(SINGLE, &why));
            }
        }
        if mistakes.is_empty() { Ok(families) } else { Err(mistakes) }
    }

    fn check(policy: &str, families: &[Family], cluster: &[Family]) -> Result<(), Vec<FieldError>> {
        let mut mistakes = Vec::new();
        if policy == REQUIRE && cluster.len() < 2 {
            let why = "this cluster is not configured for dual-stack services";
            mistakes.push(invalid_policy(policy, why));
        }
        for (index, family) in families.iter().enumerate() {
            if !cluster.contains(family) {
                let (path, value) = (field("ipFamilies").index(index), json!(family.as_str()));
                let why = "not configured on this cluster";
                mistakes.push(FieldError::new(path, Mistake::Invalid(value), why));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    /// Headless without a selector: whoever writes its endpoints may use families that the cluster has no range of.
    fn selectorless(mut families: Vec<Family>, said: Option<String>, cluster: &[Family]) -> Chosen {
        let policy = said.unwrap_or_else(|| REQUIRE.to_owned());
        if families.is_empty() {
            families.push(cluster.first().copied().unwrap_or(Family::V4));
        }
        if policy != SINGLE && families.len() == 1 {
            families.push(families[0].other());
        }
        Chosen { families, policy }
    }
}

/// `clusterIPs`, or `clusterIP` where only that is said.
pub(super) fn cluster_ips(spec: &Value) -> Vec<String> {
    let listed = spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut texts: Vec<_> = listed.map(ToOwned::to_owned).collect();
    if texts.is_empty() {
        let single = spec["clusterIP"].as_str().filter(|text| !text.is_empty());
        texts.extend(single.map(ToOwned::to_owned));
    }
    texts
}

/// The one address is the first of the list of all.
fn check_first(spec: &Value, mistakes: &mut Vec<FieldError>) {
    let (first, all) = (spec["clusterIP"].as_str().unwrap_or_default(), &spec["clusterIPs"]);
    let why = match all.as_array().and_then(|all| all.first()) {
        Some(_) if first.is_empty() => "must be empty when `clusterIP` is not specified",
        Some(listed) if listed != first => "first value must match `clusterIP`",
        _ => return,
    };
    mistakes.push(FieldError::new(field("clusterIPs"), Mistake::Invalid(all.clone()), why));
}

fn check_policy(spec: &Value, mistakes: &mut Vec<FieldError>) {
    const ALL: [&str; 3] = ["PreferDualStack", REQUIRE, SINGLE];
    let policy = &spec["ipFamilyPolicy"];
    if policy.as_str().is_some_and(|policy| !ALL.contains(&policy)) {
        let allowed = ALL.map(str::to_owned).to_vec();
        let mistake = Mistake::NotSupported(policy.clone(), allowed);
        mistakes.push(FieldError::new(field("ipFamilyPolicy"), mistake, ""));
    }
}

fn read_families(spec: &Value, mistakes: &mut Vec<FieldError>) -> Vec<Family> {
    let (path, mut families) = (field("ipFamilies"), Vec::new());
    let listed = spec["ipFamilies"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, value) in listed.iter().enumerate() {
        let path = path.index(index);
        match value.as_str().and_then(Family::parse) {
            Some(family) if families.contains(&family) => {
                mistakes.push(FieldError::new(path, Mistake::Duplicate(value.clone()), ""));
            }
            Some(family) => families.push(family),
            None => {
                let allowed = vec!["IPv4".to_owned(), "IPv6".to_owned()];
                let mistake = Mistake::NotSupported(value.clone(), allowed);
                mistakes.push(FieldError::new(path, mistake, ""));
            }
        }
    }
    families
}

fn read_addresses(
    texts: &[String],
    families: &[Family],
    mistakes: &mut Vec<FieldError>,
) -> Vec<IpAddr> {
    let path = field("clusterIPs");
    let mut wrong = |path: FieldPath, value: Value, why: &str| {
        mistakes.push(FieldError::new(path, Mistake::Invalid(value), why).of(&go_value::TEXTS));
    };
    if texts.len() > 2 {
        wrong(path, json!(texts), "may only hold up to 2 values");
        return Vec::new();
    }
    if texts.len() > 1 && texts.iter().any(|text| text == "None") {
        wrong(path, json!(texts), "'None' must be the first and only value");
        return Vec::new();
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (index, text) in texts.iter().enumerate().filter(|(_, text)| *text != "None") {
        let Ok(address) = text.parse() else {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            wrong(path.index(index), json!(text), why);
            continue;
        };
        let expected = families.get(index).copied().filter(|family| *family != Family::of(address));
        if let Some(family) = expected {
            let why = format!(
                "expected an {} value as indicated by `ipFamilies[{index}]`",
                family.as_str()
            );
            wrong(path.index(index), json!(text), &why);
        }
        addresses.push(address);
    }
    if let [first, second] = addresses[..]
        && Family::of(first) == Family::of(second)
    {
        wrong(path, json!(texts), "may specify no more than one IP for each IP family");
    }
    addresses
}

fn invalid_policy(policy: &str, why: &str) -> FieldError {
    FieldError::new(field("ipFamilyPolicy"), Mistake::Invalid(json!(policy)), why)
}

fn field(name: &str) -> FieldPath {
    FieldPath::root("spec").field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &[Family] = &[Family::V4];
    const BOTH: &[Family] = &[Family::V4, Family::V6];
    const SIX_FIRST: &[Family] = &[Family::V6, Family::V4];

    fn decide(spec: Value, cluster: &[Family]) -> String {
        match Wishes::read(&spec).and_then(|wishes| wishes.choose(cluster)) {
            Ok(Chosen { families, policy }) => {
                let words: Vec<_> = families.iter().map(|family| family.as_str()).collect();
                format!("{} {policy}", words.join(","))
            }
            Err(mistakes) => {
                mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
        }
    }

    #[test]
    fn what_is_not_said_follows_as_in_kubernetes() {
        let cases = [
            (json!({}), V4, "IPv4 SingleStack"),
            (json!({}), SIX_FIRST, "IPv6 SingleStack"),
            (json!({"ipFamilies": ["IPv6"]}), BOTH, "IPv6 SingleStack"),
            (json!({"clusterIP": "fd00::1"}), BOTH, "IPv6 SingleStack"),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), V4, "IPv4 PreferDualStack"),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), BOTH, "IPv4,IPv6 PreferDualStack"),
            (
                json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}),
                BOTH,
                "IPv6,IPv4 PreferDualStack",
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": "fd00::1"}),
                BOTH,
                "IPv6,IPv4 RequireDualStack",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
                BOTH,
                "IPv4,IPv6 RequireDualStack",
            ),
            (json!({"ipFamilies": ["IPv6", "IPv4"]}), BOTH, "IPv6,IPv4 RequireDualStack"),
            (json!({"clusterIP": "None", "selector": {"a": "b"}}), BOTH, "IPv4 SingleStack"),
            (json!({"clusterIP": "None"}), V4, "IPv4,IPv6 RequireDualStack"),
            (
                json!({"clusterIP": "None", "ipFamilyPolicy": "SingleStack"}),
                SIX_FIRST,
                "IPv6 SingleStack",
            ),
            (
                json!({"clusterIP": "None", "ipFamilies": ["IPv6"]}),
                V4,
                "IPv6,IPv4 RequireDualStack",
            ),
        ];
        for (spec, cluster, expected) in cases {
            assert_eq!(decide(spec.clone(), cluster), expected, "{spec}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_kubernetes_words() {
        let cases = [
            (
                json!({"clusterIPs": ["10.0.0.1"]}),
                V4,
                r#"spec.clusterIPs: Invalid value: ["10.0.0.1"]: must be empty when `clusterIP` is not specified"#,
            ),
            (
                json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]}),
                V4,
                r#"spec.clusterIPs: Invalid value: ["10.0.0.1"]: first value must match `clusterIP`"#,
            ),
            (
                json!({"ipFamilyPolicy": "Both"}),
                V4,
                r#"spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", "SingleStack""#,
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                V4,
                r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#,
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                V4,
                r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#,
            ),
            (
                json!({"clusterIP": "fd00::1"}),
                V4,
                r#"spec.clusterIPs[0]: Invalid value: "fd00::1": IPv6 is not configured on this cluster"#,
            ),
            (
                json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}),
                BOTH,
                r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be RequireDualStack or PreferDualStack when multiple IP families are specified"#,
            ),
            (
                json!({"ipFamilyPolicy": "SingleStack", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
                BOTH,
                r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be RequireDualStack or PreferDualStack when multiple cluster IPs are specified"#,
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv4"]}),
                BOTH,
                r#"spec.ipFamilies[1]: Duplicate value: "IPv4""#,
            ),
            (
                json!({"ipFamilies": ["ipv4"]}),
                BOTH,
                r#"spec.ipFamilies[0]: Unsupported value: "ipv4": supported values: "IPv4", "IPv6""#,
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
                BOTH,
                r#"spec.clusterIPs: Invalid value: []string{"10.0.0.1", "10.0.0.2"}: may specify no more than one IP for each IP family"#,
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None", "10.0.0.2"]}),
                BOTH,
                r#"spec.clusterIPs: Invalid value: []string{"None", "10.0.0.2"}: 'None' must be the first and only value"#,
            ),
            (
                json!({"clusterIP": "10.0.0.256"}),
                BOTH,
                r#"spec.clusterIPs[0]: Invalid value: "10.0.0.256": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ),
            (
                json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv6"]}),
                BOTH,
                r#"spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`"#,
            ),
        ];
        for (spec, cluster, expected) in cases {
            assert_eq!(decide(spec.clone(), cluster), expected, "{spec}");
        }
    }
}
