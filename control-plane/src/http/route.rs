//! What a path asks for.

use percent_encoding::percent_decode_str;

use crate::api::options::Query;

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Objects.
    Resource(Path),
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/<group>`.
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`.
    Resources(String, String),
    /// Any other path, such as `/healthz`.
    Other,
}

/// Objects, one of them, or a part of it. What is not in the path is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The namespace.
    pub namespace: String,
    /// The plural of the kind.
    pub plural: String,
    /// The object.
    pub name: String,
    /// Its part.
    pub subresource: String,
}

impl Route {
    /// Where a path leads. A part that would be more than one when it is decoded leads nowhere: keys are made of parts.
    pub fn of(path: &str) -> Self {
        let Some(parts) = parts(path) else { return Self::Other };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match *parts.as_slice() {
            ["api"] => Self::CoreVersions,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group(group.to_owned()),
            ["api", version] => Self::Resources(String::new(), version.to_owned()),
            ["apis", group, version] => Self::Resources(group.to_owned(), version.to_owned()),
            ["api", version, ref rest @ ..] => resource("", version, rest),
            ["apis", group, version, ref rest @ ..] => resource(group, version, rest),
            _ => Self::Other,
        }
    }
}

fn parts(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    path.strip_suffix('/').unwrap_or(path).split('/').map(part).collect()
}

fn part(raw: &str) -> Option<String> {
    let text = percent_decode_str(raw).decode_utf8().ok()?;
    let sound = !text.is_empty()
        && text != "."
        && text != ".."
        && !text.contains('/')
        && !text.chars().any(char::is_control);
    sound.then(|| text.into_owned())
}

fn resource(group: &str, version: &str, rest: &[&str]) -> Route {
    let (namespace, rest) = match *rest {
        // a namespace itself and its parts, not what is in it
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] | ["namespaces"] => ("", rest),
        ["namespaces", namespace, ref inner @ ..] => (namespace, inner),
        _ => ("", rest),
    };
    let (plural, name, subresource) = match *rest {
        [plural] => (plural, "", ""),
        [plural, name] => (plural, name, ""),
        [plural, name, subresource] => (plural, name, subresource),
        _ => return Route::Other,
    };
    let [group, version, namespace, plural, name, subresource] =
        [group, version, namespace, plural, name, subresource].map(str::to_owned);
    Route::Resource(Path { group, version, namespace, plural, name, subresource })
}

/// The query of a request; what is not UTF-8 is replaced.
pub fn query(text: Option<&str>) -> Query {
    let decode =
        |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    });
    Query::new(pairs.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(path: &str) -> String {
        match Route::of(path) {
            Route::Resource(path) => {
                [path.group, path.version, path.namespace, path.plural, path.name, path.subresource]
                    .join("|")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn paths_lead_to_objects() {
        for (path, expected) in [
            ("/api/v1/pods", "|v1||pods||"),
            ("/api/v1/namespaces", "|v1||namespaces||"),
            ("/api/v1/namespaces/a", "|v1||namespaces|a|"),
            ("/api/v1/namespaces/a/finalize", "|v1||namespaces|a|finalize"),
            ("/api/v1/namespaces/a/pods", "|v1|a|pods||"),
            ("/api/v1/namespaces/a/pods/b/status", "|v1|a|pods|b|status"),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", "apps|v1|a|deployments|b|scale"),
            ("/api/v1/nodes/n%31", "|v1||nodes|n1|"),
            ("/api", "CoreVersions"),
            ("/apis/apps", "Group(\"apps\")"),
            ("/apis/apps/v1", "Resources(\"apps\", \"v1\")"),
            ("/healthz", "Other"),
            ("/api/v1/nodes/a%2Fb", "Other"),
            ("/api/v1/nodes/..", "Other"),
            ("/api/v1/namespaces/a/pods/b/c/d", "Other"),
            ("/api/v1//pods", "Other"),
            ("/api/v1/pods/", "|v1||pods||"),
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = query(Some("labelSelector=a%3Db%2Cc&x=1+2&watch&x=3"));
        assert_eq!(
            (query.get("labelSelector"), query.get("x"), query.get("watch")),
            ("a=b,c", "1 2", "")
        );
    }

    proptest! {
        #[test]
        fn no_part_holds_a_slash(path in "[/a-z%0-9.]{0,40}") {
            if let Route::Resource(found) = Route::of(&path) {
                prop_assert!(![found.namespace, found.name, found.plural].iter().any(|part| part.contains('/') || part == ".."));
            }
        }
    }
}
