//! Values as Go writes them in its own syntax (`%#v`): so does Kubernetes up to 1.33 show what is wrong with a map, a list or a struct
//! (`k8s.io/apimachinery/pkg/util/validation/field`).
//!
//! Where a struct holds a pointer, Go writes an address, which tells nobody anything; here the value that it points to stands in its place.

use serde_json::{Map, Value};

use super::field_error::quoted;

/// What a JSON value is in Go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GoType {
    /// `string`, or a type made of it.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `v1.Time`, which writes itself.
    Time,
    /// `intstr.IntOrString`.
    IntOrString,
    /// A list: the name of the type of its items, and what they are.
    List(&'static str, &'static GoType),
    /// A map from texts: the name of the type of its values, and what they are.
    Map(&'static str, &'static GoType),
    /// A struct: its name and its fields, in their order.
    Struct(&'static str, &'static [GoField]),
    /// `interface {}`: what it is in JSON, as in objects of custom kinds.
    Any,
    /// A pointer within a struct: the name of what it leads to, and what that is.
    Pointer(&'static str, &'static GoType),
}

/// A field of a struct: its name in Go and in JSON, and what it holds.
pub type GoField = (&'static str, &'static str, GoType);

use GoType::{Boolean, IntOrString, List, Number, Pointer, Struct, Text};

/// A list of texts.
pub const TEXTS: GoType = List("string", &Text);
/// Labels.
pub const LABELS: GoType = GoType::Map("string", &Text);
/// The owners of an object.
pub const OWNERS: GoType = List(
    "v1.OwnerReference",
    &Struct(
        "v1.OwnerReference",
        &[
            ("APIVersion", "apiVersion", Text),
            ("Kind", "kind", Text),
            ("Name", "name", Text),
            ("UID", "uid", Text),
            ("Controller", "controller", Pointer("bool", &Boolean)),
            ("BlockOwnerDeletion", "blockOwnerDeletion", Pointer("bool", &Boolean)),
        ],
    ),
);
/// A label selector.
pub const LABEL_SELECTOR: GoType = Struct(
    "v1.LabelSelector",
    &[
        ("MatchLabels", "matchLabels", LABELS),
        ("MatchExpressions", "matchExpressions", List("v1.LabelSelectorRequirement", &REQUIREMENT)),
    ],
);
const REQUIREMENT: GoType = Struct(
    "v1.LabelSelectorRequirement",
    &[("Key", "key", Text), ("Operator", "operator", Text), ("Values", "values", TEXTS)],
);
/// A port of a service.
pub const SERVICE_PORT: GoType = Struct(
    "core.ServicePort",
    &[
        ("Name", "name", Text),
        ("Protocol", "protocol", Text),
        ("AppProtocol", "appProtocol", Pointer("string", &Text)),
        ("Port", "port", Number),
        ("TargetPort", "targetPort", IntOrString),
        ("NodePort", "nodePort", Number),
    ],
);
/// What a pod tolerates.
pub const TOLERATION: GoType = Struct(
    "core.Toleration",
    &[
        ("Key", "key", Text),
        ("Operator", "operator", Text),
        ("Value", "value", Text),
        ("Effect", "effect", Text),
        ("TolerationSeconds", "tolerationSeconds", Pointer("int64", &Number)),
    ],
);
/// What a disruption budget asks for.
pub const BUDGET: GoType = Struct(
    "policy.PodDisruptionBudgetSpec",
    &[
        ("MinAvailable", "minAvailable", Pointer("intstr.IntOrString", &IntOrString)),
        ("Selector", "selector", Pointer("v1.LabelSelector", &LABEL_SELECTOR)),
        ("MaxUnavailable", "maxUnavailable", Pointer("intstr.IntOrString", &IntOrString)),
        (
            "UnhealthyPodEvictionPolicy",
            "unhealthyPodEvictionPolicy",
            Pointer("policy.UnhealthyPodEvictionPolicyType", &Text),
        ),
    ],
);
/// A taint of a node.
pub const TAINT: GoType = Struct(
    "core.Taint",
    &[
        ("Key", "key", Text),
        ("Value", "value", Text),
        ("Effect", "effect", Text),
        ("TimeAdded", "timeAdded", Pointer("v1.Time", &Text)),
    ],
);
/// What an `IPAddress` belongs to.
pub const PARENT_REFERENCE: GoType = Struct(
    "networking.ParentReference",
    &[
        ("Group", "group", Text),
        ("Resource", "resource", Text),
        ("Namespace", "namespace", Text),
        ("Name", "name", Text),
    ],
);
/// The ranges of a `ServiceCIDR`.
pub const SERVICE_RANGES: GoType =
    Struct("networking.ServiceCIDRSpec", &[("CIDRs", "cidrs", TEXTS)]);
/// What a review asks of a path that is no resource's.
pub const NON_RESOURCE: GoType = Struct(
    "authorization.NonResourceAttributes",
    &[("Path", "path", Text), ("Verb", "verb", Text)],
);
/// How a stateful set is updated.
pub const STATEFUL_STRATEGY: GoType = Struct(
    "apps.StatefulSetUpdateStrategy",
    &[
        ("Type", "type", Text),
        (
            "RollingUpdate",
            "rollingUpdate",
            Pointer("apps.RollingUpdateStatefulSetStrategy", &STATEFUL_ROLLING),
        ),
    ],
);
/// How it is updated pod by pod.
pub const STATEFUL_ROLLING: GoType = Struct(
    "apps.RollingUpdateStatefulSetStrategy",
    &[
        ("Partition", "partition", Number),
        ("MaxUnavailable", "maxUnavailable", Pointer("intstr.IntOrString", &IntOrString)),
    ],
);
/// Which role a binding gives.
pub const ROLE: GoType = Struct(
    "rbac.RoleRef",
    &[("APIGroup", "apiGroup", Text), ("Kind", "kind", Text), ("Name", "name", Text)],
);
/// An address of a pod.
pub const POD_IP: GoType = Struct("core.PodIP", &[("IP", "ip", Text)]);
/// The addresses of a pod.
pub const POD_IPS: GoType = List("core.PodIP", &POD_IP);
/// An address of a pod's node.
pub const HOST_IP: GoType = Struct("core.HostIP", &[("IP", "ip", Text)]);
/// The addresses of a pod's node.
pub const HOST_IPS: GoType = List("core.HostIP", &HOST_IP);
/// The scopes of a quota.
pub const QUOTA_SCOPES: GoType = List("core.ResourceQuotaScope", &Text);
/// The directions of a network policy.
pub const POLICY_TYPES: GoType = List("networking.PolicyType", &Text);
/// The rules of an ingress; only shown when there are none.
pub const INGRESS_RULES: GoType = List("networking.IngressRule", &Text);

impl GoType {
    /// A value of this type; what is not of the type is written as JSON.
    pub fn show(&self, value: &Value) -> String {
        match (self, value) {
            (Self::Struct(..) | Self::Any, Value::Null) => quoted("null"),
            _ => self.within(value),
        }
    }

    /// A value in a list, a map or a struct.
    fn within(&self, value: &Value) -> String {
        match (self, value) {
            (Self::Text, Value::Null) => quoted(""),
            (Self::Number, Value::Null) => "0".to_owned(),
            (Self::Boolean, Value::Null) => "false".to_owned(),
            (Self::Time, Value::Null) => "0001-01-01 00:00:00 +0000 UTC".to_owned(),
            (Self::Time, Value::String(text)) => text.replace('T', " ").replace('Z', " +0000 UTC"),
            (Self::IntOrString, Value::String(text)) => int_or_string(1, 0, text),
            (Self::IntOrString, _) => int_or_string(0, value.as_i64().unwrap_or_default(), ""),
            (Self::List(item, _), Value::Null) => format!("[]{item}(nil)"),
            (Self::List(item, of), Value::Array(items)) => {
                let items: Vec<String> = items.iter().map(|item| of.within(item)).collect();
                format!("[]{item}{{{}}}", items.join(", "))
            }
            (Self::Map(item, _), Value::Null) => format!("map[string]{item}(nil)"),
            (Self::Map(item, of), Value::Object(map)) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                let shown = |(key, one): (&String, &Value)| quoted(key) + ":" + &of.within(one);
                let entries: Vec<String> = entries.into_iter().map(shown).collect();
                format!("map[string]{item}{{{}}}", entries.join(", "))
            }
            (Self::Struct(name, fields), Value::Object(map)) => structure(name, fields, map),
            (Self::Struct(name, fields), Value::Null) => structure(name, fields, &Map::new()),
            (Self::Any, Value::Null) => "interface {}(nil)".to_owned(),
            (Self::Any, Value::Array(_)) => List("interface {}", &Self::Any).within(value),
            (Self::Any, Value::Object(_)) => Self::Map("interface {}", &Self::Any).within(value),
            (Self::Pointer(name, _), Value::Null) => format!("(*{name})(nil)"),
            (Self::Pointer(name, of), _) => format!("(*{name})({})", of.within(value)),
            (_, Value::String(text)) => quoted(text),
            _ => value.to_string(),
        }
    }
}

/// A JSON value as Go prints it (`%+v`): without quotes and commas.
pub fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(printed).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let shown = |(key, one): (&String, &Value)| format!("{key}:{}", printed(one));
            let entries: Vec<String> = entries.into_iter().map(shown).collect();
            format!("map[{}]", entries.join(" "))
        }
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => float.to_string(),
            _ => number.to_string(),
        },
        Value::Bool(_) => value.to_string(),
    }
}

fn int_or_string(kind: u8, number: i64, text: &str) -> String {
    format!("intstr.IntOrString{{Type:{kind}, IntVal:{number}, StrVal:{}}}", quoted(text))
}

fn structure(name: &str, fields: &[GoField], map: &Map<String, Value>) -> String {
    let shown = |(go, json, of): &GoField| {
        format!("{go}:{}", of.within(map.get(*json).unwrap_or(&Value::Null)))
    };
    let fields: Vec<String> = fields.iter().map(shown).collect();
    format!("{name}{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_go_prints_them() {
        for (value, expected) in [
            (json!({"spec": {"replicaz": 1, "a": null}}), "map[spec:map[a:<nil> replicaz:1]]"),
            (json!({"b": ["x y", true, 1.0, 2.5], "a": {}}), "map[a:map[] b:[x y true 1 2.5]]"),
            (json!([]), "[]"),
        ] {
            assert_eq!(printed(&value), expected);
        }
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        for (of, value, expected) in [
            (Text, json!(null), r#""""#),
            (Number, json!(null), "0"),
            (TEXTS, json!(["a", "b\n"]), r#"[]string{"a", "b\n"}"#),
            (TEXTS, json!([]), "[]string{}"),
            (TEXTS, json!(null), "[]string(nil)"),
            (LABELS, json!({"b": "2", "a": "1"}), r#"map[string]string{"a":"1", "b":"2"}"#),
            (LABELS, json!({}), "map[string]string{}"),
            (LABELS, json!(null), "map[string]string(nil)"),
            (
                LABEL_SELECTOR,
                json!({"matchLabels": {"app": "x"}}),
                r#"v1.LabelSelector{MatchLabels:map[string]string{"app":"x"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}"#,
            ),
            (
                LABEL_SELECTOR,
                json!({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "In", "values": ["c"]}]}),
                r#"v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]v1.LabelSelectorRequirement{v1.LabelSelectorRequirement{Key:"a", Operator:"Exists", Values:[]string(nil)}, v1.LabelSelectorRequirement{Key:"b", Operator:"In", Values:[]string{"c"}}}}"#,
            ),
            (LABEL_SELECTOR, json!(null), r#""null""#),
            (IntOrString, json!(0), r#"intstr.IntOrString{Type:0, IntVal:0, StrVal:""}"#),
            (IntOrString, json!("120%"), r#"intstr.IntOrString{Type:1, IntVal:0, StrVal:"120%"}"#),
            (
                SERVICE_PORT,
                json!({"port": 80, "protocol": "TCP"}),
                r#"core.ServicePort{Name:"", Protocol:"TCP", AppProtocol:(*string)(nil), Port:80, TargetPort:intstr.IntOrString{Type:0, IntVal:0, StrVal:""}, NodePort:0}"#,
            ),
            (
                SERVICE_PORT,
                json!({"port": 80, "appProtocol": "http"}),
                r#"core.ServicePort{Name:"", Protocol:"", AppProtocol:(*string)("http"), Port:80, TargetPort:intstr.IntOrString{Type:0, IntVal:0, StrVal:""}, NodePort:0}"#,
            ),
            (
                STATEFUL_STRATEGY,
                json!({"type": "X"}),
                r#"apps.StatefulSetUpdateStrategy{Type:"X", RollingUpdate:(*apps.RollingUpdateStatefulSetStrategy)(nil)}"#,
            ),
            (LABELS, json!(["a"]), r#"["a"]"#),
            (TEXTS, json!("a"), r#""a""#),
            (GoType::Any, json!(null), r#""null""#),
            (GoType::Any, json!(1.5), "1.5"),
            (
                GoType::Any,
                json!({"b": [1, "x", null, true], "a": {}}),
                r#"map[string]interface {}{"a":map[string]interface {}{}, "b":[]interface {}{1, "x", interface {}(nil), true}}"#,
            ),
            (GoType::Time, json!("2026-01-02T03:04:05Z"), "2026-01-02 03:04:05 +0000 UTC"),
            (GoType::Time, json!(null), "0001-01-01 00:00:00 +0000 UTC"),
            (
                OWNERS,
                json!([{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u", "controller": true}]),
                r#"[]v1.OwnerReference{v1.OwnerReference{APIVersion:"v1", Kind:"Pod", Name:"a", UID:"u", Controller:(*bool)(true), BlockOwnerDeletion:(*bool)(nil)}}"#,
            ),
        ] {
            assert_eq!(of.show(&value), expected);
        }
    }
}
