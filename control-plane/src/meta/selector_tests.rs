use proptest::prelude::*;
use serde_json::json;

use super::*;

fn selects(selector: &str, labels: &Value) -> bool {
    let read: Selector = selector.parse().unwrap_or_else(|error| panic!("{selector}: {error}"));
    read.matches_labels(labels)
}

#[test]
fn requirements_select() {
    let labels = json!({"app": "web", "tier": "front", "rank": "5", "empty": "", "in": "notin"});
    for (selector, yes) in [
        ("", true),
        (" app = web ", true),
        ("app==web,tier!=back", true),
        ("app=api", false),
        ("app!=web", false),
        ("absent!=x", true),
        ("app in (api, web)", true),
        ("app in (api)", false),
        ("app notin (api)", true),
        ("absent notin (api)", true),
        ("absent in (api)", false),
        ("app,!absent", true),
        ("!app", false),
        ("rank>4,rank<6", true),
        ("rank>5", false),
        ("app>1", false),
        ("absent<1", false),
        ("empty=", true),
        ("empty in (,x)", true),
        ("empty in ()", true),
        ("app in (x,,web)", true),
        ("in=notin", true),
        ("in in (in,notin)", true),
        ("in notin (in)", true),
    ] {
        assert_eq!(selects(selector, &labels), yes, "{selector}");
    }
}

#[test]
fn the_selectors_of_kube_proxy_are_understood() {
    let selector = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";
    assert!(selects(selector, &Value::Null));
    assert!(!selects(selector, &json!({"service.kubernetes.io/headless": ""})));
}

#[test]
fn what_cannot_be_read_is_told_in_the_words_of_kubernetes() {
    for (selector, sentence) in [
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a in (x y)", "unable to parse requirement: found 'y', expected: ',' or ')'"),
        ("a in (=", "unable to parse requirement: found '=', expected: ',', or identifier"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a==!b", "unable to parse requirement: found '!', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ] {
        assert_eq!(selector.parse::<Selector>().unwrap_err().to_string(), sentence, "{selector}");
    }
    let key = "a$b=c".parse::<Selector>().unwrap_err().to_string();
    assert!(
        key.starts_with(
            "unable to parse requirement: <nil>: Invalid value: \"a$b\": name part must consist of"
        ),
        "{key}"
    );
    let value = "a=b$".parse::<Selector>().unwrap_err().to_string();
    assert!(
        value.starts_with(
            "unable to parse requirement: values[0][a]: Invalid value: \"b$\": a valid label"
        ),
        "{value}"
    );
}

#[test]
fn objects_hold_selectors() {
    let selector = Selector::from_object(&json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "gone", "operator": "DoesNotExist"},
        ],
    }));
    assert_eq!(selector.unwrap().to_string(), "app=web,!gone,tier in (back,front)");
    assert_eq!(Selector::from_object(&Value::Null), Ok(Selector::Nothing));
    assert!(!Selector::Nothing.matches_labels(&json!({"app": "web"})));
    assert!(Selector::from_object(&json!({})).unwrap().is_everything());
    assert_eq!(
        Selector::from_object(
            &json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]})
        )
        .unwrap_err()
        .to_string(),
        r#""Gt" is not a valid label selector operator"#
    );
    for wrong in [
        json!(1),
        json!({"matchLabels": []}),
        json!({"matchLabels": {"a": 1}}),
        json!({"matchExpressions": [1]}),
    ] {
        assert!(matches!(Selector::from_object(&wrong), Err(SelectorError::Shape(_))), "{wrong}");
    }
}

#[test]
fn selectors_in_objects_are_validated_by_field() {
    let wrong = validate(
        &json!({"matchExpressions": [
            {"key": "a", "operator": "In"},
            {"key": "b", "operator": "Exists", "values": ["x"]},
            {"key": "c", "operator": "Near"},
            {"key": "d", "operator": "In", "values": ["x y"]},
        ]}),
        &FieldPath::root("spec").field("selector"),
    );
    let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts[..3],
        [
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.selector.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            "spec.selector.matchExpressions[2].operator: Invalid value: \"Near\": not a valid selector operator",
        ]
    );
    assert!(texts[3].starts_with(
        "spec.selector.matchExpressions[3].values[0]: Invalid value: \"x y\": a valid label"
    ));
    assert_eq!(texts.len(), 4);
}

proptest! {
    #[test]
    fn what_is_written_selects_the_same(text in "[a-c!=<>,() 1-9]{0,20}|[ab](=|==|!=| in \\(b,)[ab]\\)?") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
        }
    }

    #[test]
    fn no_text_is_too_strange(text in "\\PC*") {
        let _ = text.parse::<Selector>();
        let object = json!({"matchLabels": {text.clone(): text}, "matchExpressions": [{"key": text, "operator": "In", "values": [text]}]});
        let _ = Selector::from_object(&object);
        validate(&object, &FieldPath::default());
    }
}
