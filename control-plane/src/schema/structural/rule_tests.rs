//! Rules of schemas × objects × what is said of them.

use serde_json::{Value, json};

use super::Structural;
use crate::meta::field_error::{FieldError, FieldPath};

fn read(schema: &Value) -> Result<Structural, Vec<String>> {
    let texts = |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect();
    Structural::read(schema, &FieldPath::root("{}")).map_err(texts)
}

/// A schema whose field `a` is this one.
fn with(field: Value) -> Value {
    json!({"type": "object", "properties": {"a": field}})
}

fn kept(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<String> {
    let structural = read(schema).unwrap_or_else(|errors| panic!("{errors:?}"));
    structural.keep(object, old).iter().map(ToString::to_string).collect()
}

fn refused(schema: &Value) -> Vec<String> {
    read(schema).err().unwrap_or_default()
}

#[test]
fn broken_rules_are_told_as_kubernetes_tells_them() {
    let rule = |rule: Value| json!({"type": "integer", "x-kubernetes-validations": [rule]});
    for (written, value, expected) in [
        (json!({"rule": "self < 5"}), json!(4), None),
        (
            json!({"rule": " self < 5 "}),
            json!(5),
            Some(r#"a: Invalid value: "integer": failed rule: self < 5"#),
        ),
        (
            json!({"rule": "self < 5", "message": "too many"}),
            json!(5),
            Some(r#"a: Invalid value: "integer": too many"#),
        ),
        (
            json!({"rule": "self < 5", "message": "too many", "messageExpression": "'%d is too many'.format([self])"}),
            json!(5),
            Some(r#"a: Invalid value: "integer": 5 is too many"#),
        ),
        // a message that cannot be made, is empty or has lines is not used
        (
            json!({"rule": "self < 5", "message": "too many", "messageExpression": "string(1 / (self - 5))"}),
            json!(5),
            Some(r#"a: Invalid value: "integer": too many"#),
        ),
        (
            json!({"rule": "self < 5", "messageExpression": "' '"}),
            json!(5),
            Some(r#"a: Invalid value: "integer": failed rule: self < 5"#),
        ),
        (
            json!({"rule": "self < 5", "messageExpression": "'a\\nb'"}),
            json!(5),
            Some(r#"a: Invalid value: "integer": failed rule: self < 5"#),
        ),
        (
            json!({"rule": "self < 5", "message": "m", "reason": "FieldValueForbidden"}),
            json!(5),
            Some("a: Forbidden: m"),
        ),
        (
            json!({"rule": "self < 5", "message": "m", "reason": "FieldValueRequired"}),
            json!(5),
            Some("a: Required value: m"),
        ),
        (
            json!({"rule": "self < 5", "message": "m", "reason": "FieldValueDuplicate"}),
            json!(5),
            Some(r#"a: Duplicate value: "integer""#),
        ),
        (
            json!({"rule": "10 / self > 1"}),
            json!(0),
            Some(r#"a: Invalid value: "integer": division by zero evaluating rule: 10 / self > 1"#),
        ),
    ] {
        let found = kept(&with(rule(written.clone())), &json!({ "a": value }), None);
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{written}");
    }
}

#[test]
fn rules_stand_at_every_part_of_a_schema() {
    let rules = |rule: &str| json!([{"rule": rule, "message": rule}]);
    let schema = json!({
        "type": "object", "x-kubernetes-validations": rules("self.metadata.name != self.kind && has(self.spec)"),
        "properties": {"spec": {
            "type": "object", "x-kubernetes-validations": rules("self.list.size() < 2"),
            "properties": {
                "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": rules("self != 'x'")}},
                "map": {"type": "object", "additionalProperties": {"type": "integer", "x-kubernetes-validations": rules("self > 0")}},
                "a-b": {"type": "boolean", "x-kubernetes-validations": rules("self")},
                "größe": {"type": "boolean", "x-kubernetes-validations": rules("self")},
                "any": {"x-kubernetes-int-or-string": true, "x-kubernetes-validations": rules("type(self) == int || self.endsWith('%')")},
                "null": {"type": "string", "nullable": true, "x-kubernetes-validations": rules("self != ''")},
                "within": {
                    "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
                    "x-kubernetes-validations": rules("self.kind == 'Pod' && self.metadata.name != ''"),
                },
                "all": {"type": "object", "properties": {"n": {"type": "integer"}}, "allOf": [
                    {"properties": {"n": {"x-kubernetes-validations": rules("self != 1")}}, "x-kubernetes-validations": rules("self.n != 2")},
                ]},
            },
        }},
    });
    let object = json!({
        "apiVersion": "a/v1", "kind": "same", "metadata": {"name": "same"},
        "spec": {
            "list": ["x", "y"], "map": {"k": 0}, "a-b": false, "größe": false, "any": "5", "null": null,
            "within": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}, "all": {"n": 1},
        },
    });
    let mut found = kept(&schema, &object, None);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            r#"<nil>: Invalid value: "object": self.metadata.name != self.kind && has(self.spec)"#,
            r#"spec.a-b: Invalid value: "boolean": self"#,
            r#"spec.all.n: Invalid value: "integer": self != 1"#,
            r#"spec.any: Invalid value: "": type(self) == int || self.endsWith('%')"#,
            r#"spec.größe: Invalid value: "boolean": self"#,
            r#"spec.list[0]: Invalid value: "string": self != 'x'"#,
            r#"spec.map[k]: Invalid value: "integer": self > 0"#,
            r#"spec.within: Invalid value: "object": self.kind == 'Pod' && self.metadata.name != ''"#,
            r#"spec: Invalid value: "object": self.list.size() < 2"#,
        ]
    );
}

#[test]
fn errors_stand_where_the_rule_says() {
    let schema = |path: &str| {
        json!({
            "type": "object", "properties": {
                "a": {"type": "object", "properties": {"b.c": {"type": "string"}}},
                "m": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "x-kubernetes-validations": [{"rule": "false", "fieldPath": path}],
        })
    };
    for (path, expected) in [
        (".a", "a"),
        (".a['b.c']", "a.b.c"),
        ("['a']['b.c']", "a.b.c"),
        (".m.key", "m[key]"),
        (".m['it\\'s']", "m[it's]"),
    ] {
        let found = kept(&schema(path), &json!({}), None);
        assert_eq!(found, [format!(r#"{expected}: Invalid value: "object": failed rule: false"#)]);
    }
    for path in [".x", "a", ".a[0]", ".a['b", ".a[", ".", " ", ".a['b.c'", ".a.x"] {
        let found = refused(&schema(path));
        assert!(
            found[0].starts_with("{}.x-kubernetes-validations[0].fieldPath: Invalid value"),
            "{path}: {found:?}"
        );
    }
}

#[test]
fn transitions_are_looked_at_where_the_value_before_is_known() {
    let rules = json!([{"rule": "self == oldSelf", "message": "is kept"}]);
    let keyed = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "required": ["k"], "properties": {
            "k": {"type": "string"}, "v": {"type": "integer", "x-kubernetes-validations": rules},
        }},
    });
    let scalar = json!({"type": "integer", "x-kubernetes-validations": rules});
    let map = json!({"type": "object", "additionalProperties": scalar});
    let keeps = r#"Invalid value: "integer": is kept"#;
    for (schema, old, new, expected) in [
        (&scalar, json!({"a": 1}), json!({"a": 1}), vec![]),
        (&scalar, json!({"a": 1}), json!({"a": 2}), vec![format!("a: {keeps}")]),
        // there was none before, or there is none now
        (&scalar, json!({}), json!({"a": 2}), vec![]),
        (&scalar, json!({"a": null}), json!({"a": 2}), vec![]),
        (&scalar, json!({"a": 1}), json!({}), vec![]),
        (
            &map,
            json!({"a": {"x": 1, "y": 1}}),
            json!({"a": {"x": 2, "z": 3}}),
            vec![format!("a[x]: {keeps}")],
        ),
        (
            &keyed,
            json!({"a": [{"k": "x", "v": 1}, {"k": "y", "v": 1}]}),
            json!({"a": [{"k": "z", "v": 5}, {"k": "y", "v": 2}, {"k": "x", "v": 1}]}),
            vec![format!("a[1].v: {keeps}")],
        ),
    ] {
        assert_eq!(kept(&with(schema.clone()), &new, Some(&old)), expected, "{old} {new}");
        assert_eq!(kept(&with(schema.clone()), &new, None), [""; 0], "{new}");
    }
    let optional = with(json!({"type": "integer", "x-kubernetes-validations": [
        {"rule": "oldSelf.hasValue() ? self >= oldSelf.value() : self == 0", "optionalOldSelf": true, "message": "counts up from 0"},
    ]}));
    assert_eq!(kept(&optional, &json!({"a": 1}), None).len(), 1);
    assert_eq!(kept(&optional, &json!({"a": 0}), None).len(), 0);
    assert_eq!(kept(&optional, &json!({"a": 2}), Some(&json!({"a": 1}))).len(), 0);
    assert_eq!(kept(&optional, &json!({"a": 0}), Some(&json!({"a": 1}))).len(), 1);
}

#[test]
fn rules_that_cannot_be_kept_are_refused_with_their_schema() {
    let rule = |rule: Value| with(json!({"type": "string", "x-kubernetes-validations": [rule]}));
    let at = "{}.properties[a].x-kubernetes-validations[0]";
    for (schema, path, sentence) in [
        (rule(json!({"rule": ""})), ".rule", "Required value: rule is not specified"),
        (
            rule(json!({"rule": "self.x == 1"})),
            ".rule",
            "compilation failed: ERROR: <input>:1:5: type 'string' does not support field selection",
        ),
        (
            rule(json!({"rule": "self ==="})),
            ".rule",
            "compilation failed: ERROR: <input>:1:8: Syntax error: token recognition error",
        ),
        (
            rule(json!({"rule": "self.reverse() == ''"})),
            ".rule",
            "undeclared reference to 'reverse'",
        ),
        (rule(json!({"rule": "self"})), ".rule", "cel expression must evaluate to a bool"),
        (
            rule(json!({"rule": "true", "message": " "})),
            ".message",
            "message must be non-empty if specified",
        ),
        (
            rule(json!({"rule": "true", "message": "a\nb"})),
            ".message",
            "message must not contain line breaks",
        ),
        (
            rule(json!({"rule": "true ||\nfalse"})),
            ".message",
            "Required value: message must be specified if rule contains line breaks",
        ),
        (
            rule(json!({"rule": "true", "messageExpression": "1"})),
            ".messageExpression",
            "messageExpression must evaluate to a string",
        ),
        (
            rule(json!({"rule": "true", "messageExpression": "self +"})),
            ".messageExpression",
            "messageExpression compilation failed: ERROR",
        ),
        (
            rule(json!({"rule": "true", "reason": "Other"})),
            ".reason",
            r#"Unsupported value: "Other": supported values: "FieldValueDuplicate""#,
        ),
        (
            rule(json!({"rule": "true", "optionalOldSelf": true})),
            ".optionalOldSelf",
            "may not be set if oldSelf is not used in rule",
        ),
    ] {
        let found = refused(&schema);
        assert!(
            found
                .iter()
                .any(|one| one.starts_with(&format!("{at}{path}: ")) && one.contains(sentence)),
            "{sentence}: {found:?}"
        );
    }
}

#[test]
fn rules_without_a_value_that_is_known_are_refused() {
    let list = |kind: Option<&str>| {
        let mut list = json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}});
        if let Some(kind) = kind {
            list["x-kubernetes-list-type"] = json!(kind);
        }
        with(list)
    };
    let vague = "oldSelf cannot be used on the uncorrelatable portion of the schema within {}.properties[a]";
    for kind in [None, Some("atomic"), Some("set")] {
        let found = refused(&list(kind));
        assert!(found[0].contains(vague), "{found:?}");
    }
    for (schema, sentence) in [
        (
            with(
                json!({"x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-validations": [{"rule": "true"}]}),
            ),
            "{}.properties[a].x-kubernetes-validations: Forbidden: rule declared on schema that does not support validation rules",
        ),
        (
            with(
                json!({"type": "string", "anyOf": [{"x-kubernetes-validations": [{"rule": "true"}]}]}),
            ),
            "{}.properties[a].anyOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural",
        ),
    ] {
        let found = refused(&schema);
        assert!(found[0].starts_with(sentence), "{found:?}");
    }
}

/// Rules of the kinds that gateways and their routes have.
fn route() -> Value {
    let once = "self.all(one, self.exists_one(other, one.port == other.port && one.protocol == other.protocol))";
    json!({"type": "object", "properties": {"spec": {
        "type": "object", "required": ["listeners"],
        "x-kubernetes-validations": [
            {"rule": "!has(oldSelf.class) || has(self.class)", "message": "class cannot be taken away"},
            {"rule": "has(self.ratio) ? self.ratio.of > 0 && self.ratio.part <= self.ratio.of : true", "message": "ratio is a part of a whole", "fieldPath": ".ratio"},
        ],
        "properties": {
            "class": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "class cannot change", "reason": "FieldValueForbidden"}]},
            "ratio": {"type": "object", "properties": {"part": {"type": "integer"}, "of": {"type": "integer", "default": 100}}},
            "hostnames": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 4, "items": {
                "type": "string", "x-kubernetes-validations": [
                    {"rule": "self.matches('^(\\\\*\\\\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "message": "hostname is a name, maybe behind a wildcard"},
                    {"rule": "self.split('.').all(part, size(part) <= 63) && !isIP(self)", "messageExpression": "'%s has a part that is too long, or is an address'.format([self])"},
                ],
            }},
            "listeners": {
                "type": "array", "minItems": 1, "maxItems": 8, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "type": "object", "required": ["name", "port"],
                    "properties": {
                        "name": {"type": "string"}, "port": {"type": "integer"}, "protocol": {"type": "string", "default": "HTTP"},
                        "tls": {"type": "object", "properties": {"mode": {"type": "string", "default": "Terminate"}, "refs": {"type": "array", "items": {"type": "string"}}}},
                    },
                    "x-kubernetes-validations": [{"rule": "self.protocol in ['HTTPS', 'TLS'] ? has(self.tls) : !has(self.tls)", "message": "tls goes with HTTPS and TLS"}],
                },
                "x-kubernetes-validations": [
                    {"rule": "self.all(l, l.protocol == 'HTTPS' && has(l.tls) && l.tls.mode == 'Terminate' ? has(l.tls.refs) && size(l.tls.refs) > 0 : true)", "message": "who terminates needs certificates"},
                    {"rule": once, "message": "port and protocol are together once"},
                ],
            },
        },
    }}})
}

#[test]
fn rules_of_gateways_are_kept() {
    let schema = route();
    let good = json!({"spec": {
        "class": "a", "ratio": {"part": 1, "of": 2}, "hostnames": ["a.example", "*.b.example"],
        "listeners": [
            {"name": "http", "port": 80, "protocol": "HTTP"},
            {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"mode": "Terminate", "refs": ["cert"]}},
        ],
    }});
    assert_eq!(kept(&schema, &good, None), [""; 0]);
    assert_eq!(kept(&schema, &good, Some(&good)), [""; 0]);
    for (pointer, value, expected) in [
        (
            "/spec/ratio/of",
            json!(0),
            r#"spec.ratio: Invalid value: "object": ratio is a part of a whole"#,
        ),
        ("/spec/class", json!("b"), "spec.class: Forbidden: class cannot change"),
        (
            "/spec/hostnames/0",
            json!("A"),
            r#"spec.hostnames[0]: Invalid value: "string": hostname is a name, maybe behind a wildcard"#,
        ),
        (
            "/spec/hostnames/1",
            json!("10.0.0.1"),
            r#"spec.hostnames[1]: Invalid value: "string": 10.0.0.1 has a part that is too long, or is an address"#,
        ),
        (
            "/spec/listeners/0/protocol",
            json!("TLS"),
            r#"spec.listeners[0]: Invalid value: "object": tls goes with HTTPS and TLS"#,
        ),
        (
            "/spec/listeners/1/tls/refs",
            json!([]),
            r#"spec.listeners: Invalid value: "array": who terminates needs certificates"#,
        ),
        (
            "/spec/listeners/0",
            json!({"name": "x", "port": 443, "protocol": "HTTPS", "tls": {"mode": "Passthrough"}}),
            r#"spec.listeners: Invalid value: "array": port and protocol are together once"#,
        ),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(kept(&schema, &bad, Some(&good)), [expected], "{pointer}");
    }
    let mut without = good.clone();
    without["spec"].as_object_mut().unwrap().remove("class");
    assert_eq!(
        kept(&schema, &without, Some(&good)),
        [r#"spec: Invalid value: "object": class cannot be taken away"#]
    );
    assert_eq!(kept(&schema, &without, None), [""; 0]);
}

#[test]
fn costly_rules_end() {
    let items = |rule: &str| {
        with(
            json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": rule}]}),
        )
    };
    let many = json!({"a": (0..3000).collect::<Vec<_>>()});
    assert_eq!(
        kept(&items("self.all(x, self.all(y, x < 0 || x + y >= 0))"), &many, None),
        [
            r#"a: Invalid value: "array": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.all(x, self.all(y, x < 0 || x + y >= 0))"#
        ]
    );
    // each stays below what one may take
    let each =
        with(json!({"type": "array", "items": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x + y >= 0))"}]}}));
    let row: Vec<u32> = (0..200).collect();
    let found = kept(&each, &json!({"a": vec![row; 100]}), None);
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("validation failed due to running out of cost budget, no further validation rules will be run"), "{found:?}");
    // long messages about many values
    let long = format!("false // {}", "x".repeat(50_000));
    let long = with(
        json!({"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": long}]}}),
    );
    let size: usize = kept(&long, &many, None).iter().map(String::len).sum();
    assert!(size < 20_000_000, "{size}");
}

/// A rule that is newer than a value lets it stay as it is; one about a change is about that as well.
#[test]
fn what_broke_a_rule_before_may_stay() {
    let schema = with(json!({
        "type": "object", "properties": {"n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5"}]}, "m": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.n > 10 && self.m > 0"}, {"rule": "self.m > oldSelf.m", "message": "it must grow"}],
    }));
    let object = |n: u8, m: u8| json!({"a": {"n": n, "m": m}});
    let old = object(7, 1);
    let small = r#"a.n: Invalid value: "integer": failed rule: self < 5"#;
    let both = r#"a: Invalid value: "object": failed rule: self.n > 10 && self.m > 0"#;
    let grow = r#"a: Invalid value: "object": it must grow"#;
    for (now, wrong) in [
        (object(7, 1), &[grow][..]),
        (object(7, 2), &[both]),
        (object(8, 2), &[both, small]),
        (object(3, 1), &[both, grow]),
    ] {
        assert_eq!(kept(&schema, &now, Some(&old)), wrong, "{now}");
    }
    assert_eq!(kept(&schema, &old, None), [both, small]);
}

#[test]
fn a_definition_full_of_regular_expressions_is_soon_refused() {
    let of = |field: &dyn Fn(usize) -> Value| {
        let fields: serde_json::Map<String, Value> =
            (0..20_000).map(|at| (format!("f{at}"), field(at))).collect();
        json!({"type": "object", "properties": fields})
    };
    let patterns = |pattern: &str| of(&|_| json!({"type": "string", "pattern": pattern}));
    let rules = |pattern: &str| {
        of(
            &|_| json!({"type": "string", "x-kubernetes-validations": [{"rule": format!("self.matches('{pattern}')")}]}),
        )
    };
    for schema in [
        patterns("^.{1000}$"),
        patterns(r"\pL{200}"),
        patterns(r"(\pL{1000}){1}\pL{1000}"),
        rules("^.{1000}$"),
        rules(r"[\\pL]{200}"),
        rules(r"[\\pL]{999}[\\pN]{999}"),
    ] {
        let began = std::time::Instant::now();
        assert!(!refused(&schema).is_empty());
        assert!(began.elapsed().as_secs() < 20);
    }
}
