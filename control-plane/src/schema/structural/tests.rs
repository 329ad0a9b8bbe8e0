use proptest::prelude::*;
use serde_json::json;

use super::super::decode::{Decoded, Target};
use super::super::definitions::Definitions;
use super::super::{Scalar, Topology};
use super::*;

fn path() -> FieldPath {
    FieldPath::root("schema")
}

fn read(schema: Value) -> Structural {
    Structural::read(&schema, &path()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

/// The mistakes in a schema with this field in its spec.
fn refused(field: Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"a": field}});
    let mistakes = Structural::read(&schema, &path()).expect_err("not structural");
    mistakes.iter().map(ToString::to_string).collect()
}

fn of(field: Value) -> Structural {
    read(json!({"type": "object", "properties": {"a": field}}))
}

fn mistakes(field: Value, value: Value) -> Vec<String> {
    of(field).validate(&json!({ "a": value }), None).iter().map(ToString::to_string).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_is_not_structural_is_refused() {
    let a = "schema.properties[a]";
    for (field, expected) in [
        (
            json!({}),
            format!("{a}.type: Required value: must not be empty for specified object fields"),
        ),
        (
            json!({"type": "array", "items": {}}),
            format!("{a}.items.type: Required value: must not be empty for specified array items"),
        ),
        (json!({"type": "array"}), format!("{a}.items: Required value: must be specified")),
        (
            json!({"type": "text"}),
            format!(
                r#"{a}.type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string""#
            ),
        ),
        (
            json!({"type": "object", "allOf": [{"properties": {"b": {"minimum": 1}}}]}),
            format!(
                "{a}.properties[b]: Required value: because it is defined in {a}.allOf[0].properties[b]"
            ),
        ),
        (
            json!({"type": "string", "anyOf": [{"type": "string"}]}),
            format!("{a}.anyOf[0].type: Forbidden: must be empty to be structural"),
        ),
        (
            json!({"type": "string", "not": {"nullable": true}}),
            format!("{a}.not.nullable: Forbidden: must be false to be structural"),
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            format!(
                "{a}.additionalProperties: Forbidden: additionalProperties cannot be set to false"
            ),
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"b": {"type": "string"}}}),
            format!(
                "{a}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            format!(
                "{a}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            ),
        ),
        (
            json!({"type": "object", "$ref": "#"}),
            format!("{a}.$ref: Forbidden: $ref is not supported"),
        ),
        (
            json!({"type": "object", "anyOf": [{"x-kubernetes-validations": [{"rule": "true"}]}]}),
            format!(
                "{a}.anyOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural"
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}),
            format!(
                "{a}.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string", "nullable": true}}, "required": ["k"]},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
            format!(
                "{a}.items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}, "required": ["k"], "nullable": true},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
            format!(
                "{a}.items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map"
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}, "required": ["k"]},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "k"]}),
            format!(
                r#"{a}.x-kubernetes-list-map-keys: Invalid value: []string{{"k", "k"}}: must not contain duplicate entries"#
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
            format!(
                r#"{a}.items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map"#
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-map-keys": ["k"]}),
            format!(
                "{a}.x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty"
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"}),
            format!(
                r#"{a}.x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "set", "map""#
            ),
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            format!(
                r#"{a}.type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#
            ),
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}),
            format!(
                r#"{a}.items.x-kubernetes-map-type: Invalid value: "null": must be atomic as item of a list with x-kubernetes-list-type=set"#
            ),
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            format!(
                "{a}.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true"
            ),
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            format!(
                "{a}.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"
            ),
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true, "additionalProperties": {"type": "string"}}),
            format!(
                "{a}.additionalProperties: Forbidden: must not be used if x-kubernetes-embedded-resource is set"
            ),
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"kind": {"type": "integer"}}}),
            format!(r#"{a}.properties[kind].type: Invalid value: "integer": must be string"#),
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object"}}, "allOf": [{"properties": {"metadata": {}}}]}),
            format!(
                "{a}.allOf[0].properties[metadata]: Forbidden: must not be specified in a nested context"
            ),
        ),
        (
            json!({"type": "integer", "default": "one"}),
            format!(
                r#"{a}.default: Invalid value: "string": default in body must be of type integer: "string""#
            ),
        ),
        (
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "default": {"c": 1}}),
            format!(
                r#"{a}.default: Invalid value: map[string]interface {{}}{{"c":1}}: must not have unknown fields"#
            ),
        ),
    ] {
        assert_eq!(refused(field), [expected]);
    }
    let pattern = refused(json!({"type": "string", "pattern": "("}));
    assert!(pattern[0].starts_with(&format!(
        r#"{a}.pattern: Invalid value: "(": must be a valid regular expression"#
    )));
    let root = Structural::read(&json!({"type": "array", "items": {"type": "string"}}), &path());
    let root = root.expect_err("no object");
    assert_eq!(
        root[0].to_string(),
        r#"schema.type: Invalid value: "array": must be object at the root"#
    );
}

#[test]
fn what_every_object_has_is_not_to_be_described() {
    let refused = |schema: Value| {
        let mut schema = schema;
        schema["type"] = json!("object");
        let found = Structural::read(&schema, &path());
        found.err().into_iter().flatten().map(|one| one.to_string()).collect::<Vec<_>>()
    };
    for (schema, expected) in [
        (
            json!({"properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string"}}}}}),
            "",
        ),
        (
            json!({"properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            "schema.properties[metadata]: Forbidden: must not specify anything other",
        ),
        (
            json!({"properties": {"metadata": {"type": "object", "description": "a"}}}),
            "schema.properties[metadata]: Forbidden: must not specify anything other",
        ),
        (
            json!({"properties": {"metadata": {"type": "string"}}}),
            "schema.properties[metadata].type: Invalid value: \"string\": must be object",
        ),
        (
            json!({"properties": {"apiVersion": {"type": "integer"}}}),
            "schema.properties[apiVersion].type: Invalid value: \"integer\": must be string",
        ),
        (
            json!({"properties": {"kind": {"type": "string", "default": "A"}}}),
            "schema.properties[kind].default: Forbidden: must not be set in top-level kind",
        ),
        (
            json!({"additionalProperties": {"type": "string"}}),
            "schema.additionalProperties: Forbidden: must not be used at the root",
        ),
        (
            json!({"additionalProperties": true, "properties": {"a": {"type": "object", "additionalProperties": true, "properties": {}}}}),
            "schema.additionalProperties: Forbidden",
        ),
    ] {
        let told = refused(schema);
        assert_eq!(told.len(), usize::from(!expected.is_empty()), "{told:?}");
        assert!(told.iter().all(|one| one.starts_with(expected)), "{told:?}");
    }
}

#[test]
fn shapes_are_those_of_built_in_kinds() {
    let structural = of(json!({
        "type": "object",
        "required": ["list"],
        "properties": {
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "list": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            },
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}, "x-kubernetes-map-type": "atomic"},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "size": {"type": "integer", "default": 3},
        },
    }));
    let Shape::Object(root) = structural.shape() else { panic!("an object") };
    assert!(
        ["apiVersion", "kind", "metadata"].iter().all(|field| root.fields.contains_key(*field))
    );
    let Shape::Object(a) = &root.fields["a"].shape else { panic!("an object") };
    assert_eq!(a.required, ["list".into()]);
    assert_eq!(a.fields["port"].shape, Shape::Scalar(Scalar::IntOrString));
    let Shape::List(list) = &a.fields["list"].shape else { panic!("a list") };
    assert_eq!(list.topology, Topology::Map(vec!["name".into()]));
    assert!(matches!(&a.fields["free"].shape, Shape::Object(free) if free.keep_unknown));
    assert!(
        matches!(&a.fields["map"].shape, Shape::Object(map) if map.atomic && map.others.is_some())
    );
    assert_eq!(a.fields["any"].shape, Shape::Any);
    assert_eq!(a.fields["size"].default, Some(json!(3)));
}

#[test]
fn unknown_fields_are_pruned_and_defaults_filled_in() {
    let structural = read(json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "default": {},
                "properties": {
                    "size": {"type": "integer", "default": 3},
                    "note": {"type": "string", "nullable": true, "default": "none"},
                    "parts": {"type": "array", "items": {"type": "object", "properties": {"on": {"type": "boolean", "default": true}}}},
                    "named": {"type": "object", "additionalProperties": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}}},
                },
            },
        },
    }));
    let target =
        Target { definitions: Definitions::kubernetes(), shape: structural.shape(), custom: true };
    let body = json!({"kind": "A", "apiVersion": "b/v1", "metadata": {"name": "a"},
        "spec": {"x": 1, "size": null, "note": null, "parts": [{}, {"on": false, "x": 1}], "named": {"a": {}}}});
    let mut object = target.value(body).expect("an object").value;
    structural.default(&mut object);
    let spec = json!({"size": 3, "note": null, "parts": [{"on": true}, {"on": false}], "named": {"a": {"n": 1}}});
    assert_eq!(object["spec"], spec);
    assert_eq!(structural.validate(&object, None), []);
    let mut empty = json!({});
    structural.default(&mut empty);
    assert_eq!(empty, json!({"spec": {"size": 3, "note": "none"}}));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn values_are_checked_in_the_words_of_kubernetes() {
    for (field, value, expected) in [
        (
            json!({"type": "integer"}),
            json!("1"),
            r#"Invalid value: "string": a in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            r#"Invalid value: "number": a in body must be of type integer: "number""#,
        ),
        (
            json!({"type": "string"}),
            json!(null),
            r#"Invalid value: "null": a in body must be of type string: "null""#,
        ),
        (
            json!({"type": "string", "enum": ["x", "y"]}),
            json!("z"),
            r#"Unsupported value: "z": supported values: "x", "y""#,
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            r#"Invalid value: "b": a in body should match '^a+$'"#,
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äöü"),
            "Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            r#"Invalid value: "a": a in body should be at least 2 chars long"#,
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "Invalid value: 0: a in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
            json!(1.5),
            "Invalid value: 1.5: a in body should be less than 1.5",
        ),
        (
            json!({"type": "integer", "multipleOf": 5}),
            json!(7),
            "Invalid value: 7: a in body should be a multiple of 5",
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "integer"}}),
            json!([1, 2]),
            "Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "array", "minItems": 1, "items": {"type": "integer"}}),
            json!([]),
            "Invalid value: 0: a in body should have at least 1 items",
        ),
        (
            json!({"type": "object", "maxProperties": 0}),
            json!({"b": 1}),
            "Too many: 1: must have at most 0 items",
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("::1"),
            r#"Invalid value: "::1": a in body must be of type ipv4: "::1""#,
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(1_u64 << 40),
            r"Invalid value: 1099511627776: a in body must be of type int32: 1099511627776",
        ),
        (
            json!({"type": "string", "oneOf": [{"pattern": "a"}, {"pattern": "b"}]}),
            json!("ab"),
            r#"Invalid value: "ab": "a" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ),
        (
            json!({"type": "string", "oneOf": [{"pattern": "a"}]}),
            json!("c"),
            r#"Invalid value: "c": "a" must validate one and only one schema (oneOf). Found none valid"#,
        ),
        (
            json!({"type": "string", "anyOf": [{"pattern": "a"}]}),
            json!("c"),
            r#"Invalid value: "c": "a" must validate at least one schema (anyOf)"#,
        ),
        (
            json!({"type": "string", "not": {"pattern": "c"}}),
            json!("c"),
            r#"Invalid value: "c": "a" must not validate the schema (not)"#,
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            r#"Invalid value: "boolean": a in body must be of type integer,string: "boolean""#,
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"}),
            json!([1, 2, 1]),
            "",
        ),
    ] {
        let found = mistakes(field.clone(), value);
        match expected {
            "" => assert_eq!(found, ["a[2]: Duplicate value: 1"]),
            expected => assert_eq!(found, [format!("a: {expected}")], "{field}"),
        }
    }
}

#[test]
fn mistakes_within_have_their_path() {
    let field = json!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "tags": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 1}}},
        },
    });
    let found = mistakes(field, json!([{"name": "x", "tags": {"k": "long"}}, {}, {"name": "x"}]));
    assert_eq!(
        found,
        [
            "a[0].tags[k]: Too long: may not be more than 1 bytes",
            "a[1].name: Required value",
            r#"a[2]: Duplicate value: map[string]interface {}{"name":"x"}"#,
        ]
    );
    let all = json!({"type": "object", "properties": {"b": {"type": "integer"}}, "allOf": [{"properties": {"b": {"minimum": 3}}}]});
    assert_eq!(
        mistakes(all, json!({"b": 1})),
        ["a.b: Invalid value: 1: a.b in body should be greater than or equal to 3"]
    );
}

#[test]
fn objects_within_are_objects() {
    let field = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    let found = mistakes(field.clone(), json!({"metadata": {}}));
    assert_eq!(
        found,
        [
            "a.apiVersion: Required value: must not be empty",
            "a.kind: Required value: must not be empty"
        ]
    );
    assert!(
        mistakes(field, json!({"apiVersion": "v1", "kind": "Pod", "spec": {"free": 1}})).is_empty()
    );
}

#[test]
fn what_is_right_has_no_mistakes() {
    for (field, value) in [
        (json!({"type": "integer"}), json!(1.0)),
        (json!({"type": "number"}), json!(1)),
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"type": "string", "nullable": true, "enum": ["a"]}), json!(null)),
        (json!({"type": "string", "format": "of my own"}), json!("anything")),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^1"}),
            json!("1%"),
        ),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!([{"a": null}])),
        (json!({"type": "string", "oneOf": [{"pattern": "^a"}, {"pattern": "^b"}]}), json!("b")),
    ] {
        assert_eq!(mistakes(field.clone(), value), Vec::<String>::new(), "{field}");
    }
}

#[test]
fn a_definition_in_a_file_becomes_a_kind() {
    let text = include_bytes!("fixtures/crontab.yaml");
    let kind = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let target = Target::kind(Definitions::kubernetes(), kind.0, kind.1, kind.2).expect("a kind");
    let definition = target.yaml(text).expect("a definition");
    assert_eq!(definition.mistakes, Vec::<String>::new());
    let structural =
        read(definition.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone());
    let target =
        Target { definitions: Definitions::kubernetes(), shape: structural.shape(), custom: true };
    let object = target.yaml(b"kind: CronTab\nspec: {cronSpec: '* * * *', extra: 1, ports: [{port: 80}, {port: 80, protocol: TCP}]}");
    let object = object.expect("an object");
    assert_eq!(object.mistakes, [r#"unknown field "spec.extra""#]);
    let mut object = object.value;
    structural.default(&mut object);
    assert_eq!(
        (&object["spec"]["replicas"], &object["spec"]["ports"][0]["protocol"]),
        (&json!(1), &json!("TCP"))
    );
    let mistakes: Vec<String> =
        structural.validate(&object, None).iter().map(ToString::to_string).collect();
    assert_eq!(
        mistakes,
        [
            r#"spec.cronSpec: Invalid value: "* * * *": spec.cronSpec in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'"#,
            r#"spec.ports[1]: Duplicate value: map[string]interface {}{"port":80, "protocol":"TCP"}"#,
        ]
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c(*]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// What narrows values, most of it harmless.
fn narrowing() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => Just(json!({})),
        1 => "[ab(]{1,2}".prop_map(|pattern| json!({ "pattern": pattern })),
        1 => (-2..2).prop_map(|least| json!({ "minimum": least, "exclusiveMinimum": true })),
        1 => any_json().prop_map(|value| json!({ "enum": [value, "a", 1] })),
        1 => (0..2_u8).prop_map(|most| json!({ "maxLength": most, "maxItems": most, "maxProperties": most })),
        1 => any_json().prop_map(|value| json!({ "default": value })),
        1 => any::<bool>().prop_map(|yes| json!({ "nullable": yes, "oneOf": [{ "pattern": "a" }, { "minLength": 1 }] })),
        1 => Just(json!({ "anyOf": [{ "properties": { "a": { "not": { "pattern": "b" } } } }] })),
    ]
}

fn any_schema() -> impl Strategy<Value = Value> {
    let kinds = vec!["string", "integer", "number", "boolean"];
    let leaf = prop_oneof![
        4 => proptest::sample::select(kinds).prop_map(|kind| json!({ "type": kind })),
        1 => Just(json!({ "x-kubernetes-int-or-string": true })),
        1 => Just(json!({ "x-kubernetes-preserve-unknown-fields": true })),
    ];
    let shapes = leaf.prop_recursive(3, 12, 3, |inner| {
        let of = proptest::collection::btree_map("[ab]", inner.clone(), 0..3);
        prop_oneof![
            of.prop_map(|fields| json!({ "type": "object", "properties": fields, "required": ["a"] })),
            inner.clone().prop_map(|other| json!({ "type": "object", "additionalProperties": other })),
            (inner, proptest::sample::select(vec!["set", "atomic", "map"])).prop_map(
                |(item, list)| json!({ "type": "array", "items": item, "x-kubernetes-list-type": list })
            ),
        ]
    });
    (shapes, narrowing()).prop_map(|(mut schema, more)| {
        let all = schema.as_object_mut().expect("a schema is a map");
        all.extend(more.as_object().expect("a map").clone());
        json!({ "type": "object", "properties": { "a": schema } })
    })
}

proptest! {
    #[test]
    fn any_schema_is_refused_or_works(schema in prop_oneof![9 => any_schema(), 1 => any_json()], value in any_json()) {
        if let Ok(structural) = Structural::read(&schema, &path()) {
            let target = Target { definitions: Definitions::kubernetes(), shape: structural.shape(), custom: true };
            let mut object = target.value(json!({ "a": value })).expect("metadata is not there").value;
            structural.default(&mut object);
            structural.validate(&object, None);
            let defaulted = object.clone();
            structural.default(&mut object);
            prop_assert_eq!(&object, &defaulted, "what was filled in stays");
            let again = target.value(object).expect("metadata is not there");
            prop_assert_eq!(again, Decoded { value: defaulted, mistakes: vec![] }, "what was pruned is gone");
        }
    }
}

/// What a schema that became narrower refuses already may stay as it is.
#[test]
fn what_was_wrong_before_may_stay() {
    let entry = json!({
        "type": "object", "required": ["name"],
        "properties": {"name": {"type": "string"}, "size": {"type": "integer", "maximum": 5}},
    });
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 3},
        "b": {"type": "object", "required": ["c"], "properties": {"c": {"type": "integer"}, "d": {"type": "integer"}}},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": entry},
        "plain": {"type": "array", "items": {"type": "integer", "maximum": 5}},
        "map": {"type": "object", "additionalProperties": {"type": "integer", "maximum": 5}},
        "all": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
            "allOf": [{"properties": {"x": {"maximum": 5}}}]},
    }});
    let structural = read(schema);
    let old = json!({
        "a": "long", "b": {"d": 1}, "keyed": [{"name": "one", "size": 9}, {"name": "two", "size": 9}], "plain": [9, 1], "map": {"k": 9, "l": 1},
        "all": {"x": 9, "y": 1},
    });
    assert_eq!(structural.validate(&old, None).len(), 7);
    assert_eq!(structural.validate(&old, Some(&old)), []);
    for (field, now, wrong) in [
        ("a", json!("other"), &["a: Too long"][..]),
        ("b", json!({"d": 2}), &["b.c: Required"]),
        ("b", json!({"c": 1}), &[]),
        // an item is known by its key, wherever it is
        ("keyed", json!([{"name": "two", "size": 9}, {"name": "three", "size": 1}]), &[]),
        (
            "keyed",
            json!([{"name": "one", "size": 8}, {"name": "two", "size": 9}]),
            &["keyed[0].size: Invalid"],
        ),
        ("keyed", json!([{"name": "three", "size": 9}]), &["keyed[0].size: Invalid"]),
        // one without a key is not
        ("plain", json!([9, 2]), &["plain[0]: Invalid"]),
        ("map", json!({"k": 9, "l": 2}), &[]),
        ("map", json!({"k": 8, "l": 1}), &["map[k]: Invalid"]),
        ("all", json!({"x": 9, "y": 2}), &["all.x: Invalid"]),
    ] {
        let mut object = old.clone();
        object[field] = now;
        let found = structural.validate(&object, Some(&old));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), wrong.len(), "{field}: {found:?}");
        assert!(found.iter().zip(wrong).all(|(one, wrong)| one.starts_with(wrong)), "{found:?}");
    }
}
