//! JSON paths as printer columns use them: fields, items, `[*]`, and filters such as `[?(@.type=="Ready")]`.
//! <https://kubernetes.io/docs/reference/kubectl/jsonpath/>

use serde_json::Value;

/// How deep filters may stand in filters.
const DEEPEST: usize = 8;

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// Negative: from the end.
    Index(i64),
    All,
    /// Items where the path leads to something, or to a value that is (`true`) or is not (`false`) this one.
    Filter(JsonPath, Option<(bool, Value)>),
}

impl JsonPath {
    /// Reads a path; the error says what is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        steps(text, DEEPEST).map(Self)
    }

    /// The first value that the path leads to.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        walk(&self.0, value)
    }
}

fn walk<'a>(steps: &[Step], value: &'a Value) -> Option<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(value) };
    match step {
        Step::Field(name) => walk(rest, value.get(name)?),
        Step::Index(index) => {
            let items = value.as_array()?;
            let at = usize::try_from(*index)
                .ok()
                .or_else(|| items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?))?;
            walk(rest, items.get(at)?)
        }
        Step::All => match value {
            Value::Array(items) => items.iter().find_map(|item| walk(rest, item)),
            Value::Object(map) => map.values().find_map(|item| walk(rest, item)),
            _ => None,
        },
        Step::Filter(path, test) => {
            let holds = |item: &&Value| match (path.find(item), test) {
                (found, None) => found.is_some(),
                (Some(found), Some((equal, wanted))) => (found == wanted) == *equal,
                (None, Some(_)) => false,
            };
            value.as_array()?.iter().filter(holds).find_map(|item| walk(rest, item))
        }
    }
}

fn steps(text: &str, depth: usize) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let (name, tail) = word(after);
            match name.as_str() {
                "" if tail.starts_with('[') || (tail.is_empty() && steps.is_empty()) => {}
                "" => return Err(format!("a name is missing in {text:?}")),
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
            rest = tail;
        } else if let Some(inner) = rest.strip_prefix('[') {
            let end = closing(inner).ok_or_else(|| format!("a bracket is open in {text:?}"))?;
            steps.push(bracket(&inner[..end], depth)?);
            rest = &inner[end + 1..];
        } else {
            return Err(format!("a path begins with a dot or a bracket, and {rest:?} does not"));
        }
    }
    Ok(steps)
}

/// The name at the beginning, and what follows it. A backslash takes its meaning from the next sign.
fn word(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut signs = text.char_indices();
    while let Some((at, sign)) = signs.next() {
        match sign {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(signs.next().map(|(_, sign)| sign)),
            sign => name.push(sign),
        }
    }
    (name, "")
}

/// Where the bracket closes that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut open) = (None, 0_usize);
    for (at, sign) in text.char_indices() {
        match (quote, sign) {
            (Some(mark), sign) if mark == sign => quote = None,
            (None, '\'' | '"') => quote = Some(sign),
            (None, '[') => open += 1,
            (None, ']') if open == 0 => return Some(at),
            (None, ']') => open -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|mark| text.strip_prefix(mark)?.strip_suffix(mark))
}

fn bracket(text: &str, depth: usize) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Field(name.replace('\\', "")));
    }
    if let Some(inner) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let depth = depth.checked_sub(1).ok_or("filters stand too deep in one another")?;
        return filter(inner, depth);
    }
    text.parse().map(Step::Index).map_err(|_| {
        format!("[{text}] is none of [*], [<number>], ['<name>'] and [?(@<path> == <value>)]")
    })
}

fn filter(text: &str, depth: usize) -> Result<Step, String> {
    let (left, compared) = match (text.find("=="), text.find("!=")) {
        (Some(at), _) => (&text[..at], Some((true, literal(&text[at + 2..])?))),
        (None, Some(at)) => (&text[..at], Some((false, literal(&text[at + 2..])?))),
        (None, None) => (text, None),
    };
    let path = left.trim().strip_prefix('@').filter(|path| !path.contains(['<', '>', '=', '~']));
    let path = path.ok_or_else(|| {
        format!("the filter {text:?} is none of @<path>, @<path> == <value> and @<path> != <value>")
    })?;
    Ok(Step::Filter(JsonPath(steps(path, depth)?), compared))
}

fn literal(text: &str) -> Result<Value, String> {
    let text = text.trim();
    match quoted(text) {
        Some(text) => Ok(text.into()),
        None => serde_json::from_str(text)
            .map_err(|_| format!("{text:?} is neither a number, nor true or false, nor in quotes")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_the_first_value() {
        let object = json!({
            "spec": {"a.b": 1, "list": [{"n": 1}, {"n": 2, "m": "x"}]},
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        for (path, expected) in [
            (".spec.list[1].n", Some(json!(2))),
            (".spec.list[-1].m", Some(json!("x"))),
            (".spec.list[*].m", Some(json!("x"))),
            (r".spec.a\.b", Some(json!(1))),
            (".spec['a.b']", Some(json!(1))),
            (r#".status.conditions[?(@.type=="Ready")].status"#, Some(json!("True"))),
            (".status.conditions[?(@.type == 'Ready')].status", Some(json!("True"))),
            (".status.conditions[?(@.type != 'A')].status", Some(json!("True"))),
            (".spec.list[?(@.m)].n", Some(json!(2))),
            (".spec.list[?(@.n==2)].m", Some(json!("x"))),
            (".spec.none.at.all", None),
            (".spec.list[-3]", None),
            (".spec.list[7]", None),
        ] {
            let found = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(found.find(&object).cloned(), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for path in
            ["spec", ".a..b", ".a[", ".a[x]", ".a[0:2]", ".a[?(@.b > 1)]", ".a[?(b)]", ".a."]
        {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
        let deep = (0..100).fold(String::from("@.a"), |inner, _| format!("@.a[?({inner})]"));
        assert!(JsonPath::parse(&format!(".a[?({deep})]")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in r#"[.a\[\]*?(@)='"\\!0-9é-]{0,40}"#) {
            if let Ok(path) = JsonPath::parse(&text) {
                let _ = path.find(&json!({"a": [{"a": 1}, "a"]}));
            }
        }
    }
}
