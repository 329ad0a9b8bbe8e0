//! Schemas × rules × what is said of their cost. The figures are those of Kubernetes' own tests.

use serde_json::{Value, json};

use super::{Structural, bounds};
use crate::meta::field_error::{FieldError, FieldPath};
use crate::schema::cel::{Program, Wanted};

fn path() -> FieldPath {
    FieldPath::root("s")
}

fn costs(schema: &Value) -> Vec<String> {
    let structural =
        Structural::read(schema, &path()).unwrap_or_else(|errors| panic!("{errors:?}"));
    structural.costs(&path()).iter().map(ToString::to_string).collect()
}

/// The cost of a rule about a value of a schema.
fn cost(schema: &Value, rule: &str) -> u64 {
    let schema: super::Schema = serde_json::from_value(schema.clone()).unwrap();
    let declared = super::declare::part(&schema, false).unwrap();
    let program = Program::compile(rule, &declared, false, Wanted::Bool, &mut { 1 << 20 })
        .unwrap_or_else(|error| panic!("{rule}: {error}"));
    program.cost(&bounds::part(&schema, false).unwrap())
}

fn limited(mut schema: Value, limits: &[(&str, u64)]) -> Value {
    for (name, limit) in limits {
        schema[*name] = json!(limit);
    }
    schema
}

fn kind(of: &str) -> Value {
    match of {
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        "duration" | "date" | "date-time" | "byte" => json!({"type": "string", "format": of}),
        "object" => json!({
            "type": "object", "required": ["required"],
            "properties": {"required": {"type": "string"}, "optional": {"type": "string"}},
        }),
        "array" => json!({"type": "array", "items": {"type": "number"}}),
        "map" => json!({"type": "object", "additionalProperties": {"type": "number"}}),
        plain => json!({"type": plain}),
    }
}

#[test]
fn lists_and_maps_cost_by_how_many_items_a_request_can_hold() {
    // without a limit, and with this one
    for (of, list, map) in [
        ("number", 4_718_591, 1_348_169),
        ("string", 3_145_727, 1_179_647),
        ("boolean", 1_887_437, 943_718),
        ("array", 3_145_727, 1_179_647),
        ("map", 3_145_727, 1_179_647),
        ("object", 555_128, 428_963),
        ("int-or-string", 4_718_591, 1_348_169),
        ("duration", 2_359_295, 1_048_577),
        ("date", 725_936, 524_288),
        ("date-time", 428_963, 349_526),
    ] {
        let all = "self.all(x, true)";
        let array = json!({"type": "array", "items": kind(of)});
        assert_eq!(cost(&array, all), list, "{of}");
        assert_eq!(cost(&limited(array, &[("maxItems", 10)]), all), 32, "{of}");
        let object = json!({"type": "object", "additionalProperties": kind(of)});
        assert_eq!(cost(&object, all), map, "{of}");
        assert_eq!(cost(&limited(object, &[("maxProperties", 10)]), all), 32, "{of}");
    }
}

#[test]
fn expressions_cost_what_they_cost_in_kubernetes() {
    let strings = |most: Option<u64>| {
        let item =
            most.map_or(kind("string"), |most| limited(kind("string"), &[("maxLength", most)]));
        let list = json!({"type": "array", "items": item});
        most.map_or(list.clone(), |most| limited(list, &[("maxItems", most)]))
    };
    let texts = |most: Option<u64>, rule: &str| {
        let text =
            most.map_or(kind("string"), |most| limited(kind("string"), &[("maxLength", most)]));
        cost(&text, rule)
    };
    for (rule, free, most, bound) in [
        ("self.contains('test')", 314_574, 10, 5),
        ("self.startsWith('test')", 2, 15, 2),
        ("self.endsWith('test')", 2, 30, 2),
        ("size(self + 'hello') > size('hello')", 314_578, 4, 7),
        ("self.matches('x')", 314_574, 50, 22),
        ("''.matches('(((((((((())))))))))[0-9]')", 7, 10, 7),
        ("self.matches('')", 1, 100, 1),
        ("self == 'x'", 2, 0, 1),
        ("self.find('[0-9]+') == ''", 629_147, 10, 11),
        ("self.lowerAscii() == 'lower!'", 314_575, 10, 6),
    ] {
        assert_eq!(texts(None, rule), free, "{rule}");
        assert_eq!(texts(Some(most), rule), bound, "{rule}");
    }
    for (rule, free, most, bound) in [
        ("self[1] == self[1]", 314_577, 8, 8),
        ("self.join(' ') == 'aa bb'", 329_853_068_905, 10, 43),
        ("self.isSorted() == true", 329_854_432_052, 10, 52),
    ] {
        assert_eq!(cost(&strings(None), rule), free, "{rule}");
        assert_eq!(cost(&strings(Some(most)), rule), bound, "{rule}");
    }
    let list = |of: &str| json!({"type": "array", "items": kind(of)});
    let map = |of: &str| json!({"type": "object", "additionalProperties": kind(of)});
    for (schema, rule, expected) in [
        (list("number"), "self[1] == 0.0", 2),
        (list("int-or-string"), "self[0] == 5", 3),
        (list("boolean"), "self[0] == false", 2),
        (list("object"), "self[0] == null", 2),
        (list("array"), "self[0][0] == -1.0", 3),
        (list("map"), "self.all(x, x.y == 25.2)", 6_291_452),
        (list("map"), "self[0].x > 2.0", 4),
        (list("duration"), "self[0].getHours() == 2", 4),
        (list("date-time"), "self[2].getMinutes() == 45", 4),
        (list("number"), "self.all(x, x == 0.0)", 6_291_454),
        (map("string"), "self.all(x, x.contains(self[x]))", 2_752_507),
        (map("integer"), "oldSelf.size() == self.size()", 5),
        (map("date-time"), "self['a'] == self['b']", 8),
        (map("number"), "has(self.x)", 1),
        (kind("byte"), "self == b'x'", 2),
        (json!({"type": "string", "enum": ["A", "B", "C", "LongValue"]}), "self.contains('A')", 2),
        (limited(list("number"), &[("maxItems", 10)]), "self.all(x, self.all(y, true))", 352),
        (
            limited(list("number"), &[("maxItems", 10)]),
            "self.all(x, self.all(y, self.all(z, true)))",
            3_552,
        ),
        (
            limited(json!({"type": "array", "items": map("object")}), &[("maxItems", 10)]),
            "self.all(x, x['y'].required == 'z')",
            72,
        ),
    ] {
        assert_eq!(cost(&schema, rule), expected, "{rule}");
    }
    let parts = json!({"type": "object", "properties": {
        "str": {"type": "string"}, "separator": {"type": "string"},
        "before": {"type": "string", "maxLength": 2}, "after": {"type": "string", "maxLength": 4},
    }});
    for (rule, expected) in [
        ("self.str.replace(self.before, self.after) == 'does not matter'", 629_154),
        ("self.str.split(self.separator) == []", 629_160),
        // a number that was made a text may have any size to the model
        ("'min ' + string(1) != ''", u64::MAX.div_ceil(10) + 1),
    ] {
        assert_eq!(cost(&parts, rule), expected, "{rule}");
    }
}

/// A schema whose field `a` has a rule.
fn ruled(mut field: Value, rule: &str) -> Value {
    field["x-kubernetes-validations"] = json!([{"rule": rule}]);
    json!({"type": "object", "properties": {"a": field}})
}

const ADVICE: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";

#[test]
fn rules_that_are_too_dear_are_told_as_kubernetes_tells_them() {
    let texts = |items: u64, length: u64| {
        let item = json!({"type": "string", "maxLength": length});
        ruled(
            json!({"type": "array", "maxItems": items, "items": item}),
            "self.all(x, x.contains('gpu'))",
        )
    };
    // the most items of these lengths that Kubernetes accepts, and one more
    for (length, items) in [(16, 909_090), (63, 333_333), (253, 94_339)] {
        assert_eq!(costs(&texts(items, length)), [""; 0], "{length}");
        let told = costs(&texts(items + 1, length));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("s.properties[a].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of 1.0000"), "{told:?}");
    }
    let numbers = json!({"type": "array", "items": {"type": "integer"}});
    let rule = "s.properties[a].x-kubernetes-validations[0].rule: Forbidden:";
    assert_eq!(
        costs(&ruled(numbers.clone(), "self.all(x, self.all(y, x == y))")),
        [
            format!(
                "{rule} estimated rule cost exceeds budget by factor of more than 100x {ADVICE}"
            ),
            format!(
                "{rule} contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            ),
            format!(
                "s: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {ADVICE}"
            ),
        ]
    );
    assert_eq!(
        costs(&ruled(
            limited(numbers.clone(), &[("maxItems", 1_500)]),
            "self.all(x, self.all(y, x == y))"
        )),
        [format!("{rule} estimated rule cost exceeds budget by factor of 1.125750x {ADVICE}")]
    );
    assert_eq!(
        costs(&ruled(limited(numbers, &[("maxItems", 1_000)]), "self.all(x, self.all(y, x == y))")),
        [""; 0]
    );
    // the message, which is made once
    let message = json!({"type": "object", "properties": {"a": {"type": "integer", "x-kubernetes-validations": [
        {"rule": "self > 1", "messageExpression": "'got ' + string(self)"}]}}});
    let told = costs(&message);
    assert!(told[0].starts_with("s.properties[a].x-kubernetes-validations[0].messageExpression: Forbidden: estimated messageExpression cost exceeds budget by factor of more than 100x"), "{told:?}");
}

#[test]
fn a_rule_costs_as_often_as_its_value_may_be_there() {
    let within = |limits: &[(&str, u64)], item: Value| {
        let list = limited(json!({"type": "array", "items": item}), limits);
        json!({"type": "object", "properties": {"a": list}})
    };
    let text = |length: u64| json!({"type": "string", "maxLength": length, "x-kubernetes-validations": [{"rule": "self.contains('keyword')"}]});
    // 1 + ⌈4 · 250 / 10⌉ each
    assert_eq!(costs(&within(&[("maxItems", 99_000)], text(250))), [""; 0]);
    let told = costs(&within(&[("maxItems", 100_000)], text(250)));
    assert_eq!(
        told,
        [format!(
            "s.properties[a].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of 1.010000x {ADVICE}"
        )]
    );
    // as many as fit into a request: a third of its bytes
    let told = costs(&within(&[], text(250)));
    assert!(told[0].contains("factor of 10.6x"), "{told:?}");
    // rules that are each cheap enough, and too dear together
    let many: Vec<Value> =
        (0..21).map(|at| json!({"rule": format!("self.contains('keyword{at}')")})).collect();
    let text = json!({"type": "string", "maxLength": 250, "x-kubernetes-validations": many});
    let told = costs(&within(&[("maxItems", 49_000)], text));
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[..4].iter().all(|one| one.contains("contributed to")), "{told:?}");
    assert!(told[4].contains("exceeds budget by factor of 1.039290x"), "{told:?}");
    // what has no name in expressions has rules of its own
    let schema = json!({"type": "object", "properties": {"größe": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}]}}});
    assert_eq!(costs(&schema).len(), 3);
}

#[test]
fn rules_that_people_write_are_not_too_dear() {
    let quantity = json!({"x-kubernetes-int-or-string": true, "pattern": "^[0-9]+$"});
    for (field, rule) in [
        (json!({"type": "string"}), "self == oldSelf"),
        (json!({"type": "string"}), "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')"),
        (json!({"type": "string"}), "self in ['a', 'b', 'c']"),
        (quantity, "type(self) == int ? self > 1 : self.endsWith('%')"),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            "self.size() < 5 && !('x' in self)",
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            "self < timestamp('2030-01-01T00:00:00Z') && self.getHours('Europe/Berlin') > 3",
        ),
        (
            json!({"type": "string"}),
            "isQuantity(self) && quantity(self).isLessThan(quantity('10Gi'))",
        ),
        (
            json!({"type": "string"}),
            "ip(self) == ip('10.0.0.1') || cidr('10.0.0.0/8').containsIP(self)",
        ),
        (
            json!({"type": "string"}),
            "url(self).getScheme() == 'https' && self.split('.').size() > 2",
        ),
        (
            json!({"type": "array", "maxItems": 64, "items": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 63}, "on": {"type": "boolean"}}}}),
            "self.filter(p, p.on).all(p, p.name.matches('^[a-z]+$')) && self.map(p, p.name).all(n, self.exists_one(p, p.name == n))",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 63}, "b": {"type": "integer"}}}),
            "self.?a.orValue('x').matches('^x') && self.?b.optMap(b, b > 2).orValue(true)",
        ),
    ] {
        assert_eq!(costs(&ruled(field, rule)), [""; 0], "{rule}");
    }
}

#[test]
fn a_cost_cannot_be_greater_than_the_greatest_number() {
    let nested = (0..40).fold("true".to_owned(), |body, at| format!("self.all(x{at}, {body})"));
    let schema = ruled(json!({"type": "array", "items": {"type": "string"}}), &nested);
    let told: Vec<FieldError> = Structural::read(&schema, &path()).unwrap().costs(&path());
    assert_eq!(told.len(), 3);
}
