use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: c, image: i}\n";

fn errors(text: &str) -> Vec<String> {
    let parsed = parse(text, Path::new("/m/a.yaml"));
    parsed.problems.iter().map(|problem| problem.error.to_string()).collect()
}

#[test]
fn documents_are_judged_one_by_one() {
    let text =
        format!("# comment\n---\n{POD}---\nx: 1\nkind: [\n---\n{}", POD.replace("web", "other"));
    let parsed = parse(&text, Path::new("/m/a.yaml"));
    let names: Vec<_> = parsed
        .pods
        .iter()
        .map(|pod| (pod.object.metadata.name.clone().unwrap(), pod.line))
        .collect();
    assert_eq!(names, [("web".to_owned(), 3), ("other".to_owned(), 13)]);
    assert_eq!(
        errors(&text),
        ["/m/a.yaml:11: document 2: is not valid YAML: unclosed bracket '['"]
    );
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (
            POD.replace("image: i", "image: i, comand: [x]"),
            "a.yaml:1: Pod default/web: spec.containers[0].comand: Kubernetes has no such field",
        ),
        (
            POD.replace("kind: Pod", "kind: Deployment"),
            "Deployment default/web: kind Deployment (v1) is not supported in static mode",
        ),
        (POD.replace("kind: Pod", ""), "document 1: apiVersion and kind are needed"),
        (
            POD.replace("{name: c, image: i}", "5"),
            "a.yaml:6: Pod default/web: spec.containers[0]: invalid type: integer `5`",
        ),
        (
            POD.replace("name: web", "name: 5"),
            "a.yaml:1: document 1: metadata.name: invalid type: integer `5`",
        ),
        ("just text".to_owned(), "document 1: apiVersion and kind are needed"),
        (
            "a: 1\na: 2\n".to_owned(),
            "a.yaml:2: document 1: is not valid YAML: duplicate mapping key: a",
        ),
        ("apiVersion: v1\nkind: List\nitems: 5".to_owned(), "items: must be a list"),
    ];
    for (text, expected) in cases {
        let found = errors(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
}

#[test]
fn mistakes_of_all_kinds_are_told_at_once() {
    let text =
        POD.replace("name: web", "name: Web").replace("image: i", "imaje: i, livenessProbe: {}");
    let found = errors(&text).join("\n");
    for expected in [
        "containers[0].imaje",
        "metadata.name: \"Web\"",
        "[0].livenessProbe",
        "[0].image: is needed",
    ] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn lists_directives_json_and_windows_lines_are_read() {
    let indented = POD.replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {indented}");
    let json = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}"#;
    let cases = [
        list,
        format!("%YAML 1.2\n---\n{POD}"),
        json.to_owned(),
        POD.replace('\n', "\r\n"),
        format!("\u{feff}{POD}...\n"),
    ];
    for text in cases {
        let parsed = parse(&text, Path::new("x"));
        assert!(
            parsed.problems.is_empty() && parsed.pods.len() == 1,
            "{text}\n{:?}",
            parsed.problems
        );
    }
}

#[test]
fn numbers_are_quantities() {
    let text = POD.replace("image: i", "image: i, resources: {limits: {cpu: 2, memory: 1e9}}");
    let parsed = parse(&text, Path::new("x"));
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let container = &parsed.pods[0].object.spec.as_ref().unwrap().containers[0];
    let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["cpu"].0, "2");
}

#[test]
fn hostile_documents_are_errors_or_small() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let refs = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    let deep = [bomb, "[".repeat(1 << 20), "{a: ".repeat(1 << 18), "- ".repeat(1 << 19)];
    for text in deep {
        assert_eq!(errors(&text).len(), 1);
    }
    assert!(errors(&"a\n---\n".repeat(1 << 17)).iter().all(|error| error.contains("apiVersion")));
}

proptest::proptest! {
    #[test]
    fn hostile_text_never_panics(text in "\\PC{0,300}") {
        parse(&text, Path::new("x"));
    }

    /// Text that looks like a manifest gets further than noise does.
    #[test]
    fn almost_manifests_never_panic(cut in 0usize..140, junk in "[-\\[{:&*!|>'\"%@`#, \n]{0,8}") {
        let at = cut.min(POD.len());
        parse(&format!("{}{junk}{}", &POD[..at], &POD[at..]), Path::new("x"));
    }
}
