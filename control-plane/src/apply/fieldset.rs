//! Sets of paths into an object, and their JSON form `FieldsV1`
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/>, structured-merge-diff's `fieldpath`).
//!
//! In JSON a set is a map by path element: `f:name` for a field, `k:{"name":"a"}` for an item of a list by its keys, `v:"a"` for one by
//! its value, `i:3` for one by its place, and `.` for the path that leads here itself. Elements are in the order of their bytes.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde_json::{Map, Value};

/// A JSON value with an order, so that it can be part of a path.
#[derive(Clone, Debug)]
pub struct Atom(pub Value);

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Atom {
    /// Numbers, texts, booleans, lists, maps, null.
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // by value; their texts tell numbers apart that are the same float
            (Value::Number(one), Value::Number(two)) => {
                let float = |number: &serde_json::Number| number.as_f64().unwrap_or_default();
                let texts = || one.to_string().cmp(&two.to_string());
                float(one).total_cmp(&float(two)).then_with(texts)
            }
            (Value::String(one), Value::String(two)) => one.cmp(two),
            (Value::Bool(one), Value::Bool(two)) => one.cmp(two),
            (one, two) => {
                rank(one).cmp(&rank(two)).then_with(|| one.to_string().cmp(&two.to_string()))
            }
        }
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field of a map.
    Field(String),
    /// The item of a list with these keys, in the order of their names.
    Key(Vec<(String, Atom)>),
    /// The item of a list that is this.
    Value(Atom),
    /// The item at this place of a list.
    Index(i64),
}

impl fmt::Display for PathElement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(out, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<String> =
                    keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(out, "[{}]", keys.join(","))
            }
            Self::Value(value) => write!(out, "[={value}]"),
            Self::Index(index) => write!(out, "[{index}]"),
        }
    }
}

/// Steps from an object to a value in it, such as `.spec.containers[name="a"].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<PathElement>);

impl Path {
    /// A path through fields only.
    pub fn fields(names: &[&str]) -> Self {
        Self(names.iter().map(|name| PathElement::Field((*name).to_owned())).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(out))
    }
}

/// What cannot be a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSetError {
    /// A set that is not a map.
    #[error("fields are a map by path element, not {0}")]
    NotMap(String),
    /// An element that is of no form.
    #[error("path element {0:?} is not of the form f:name, k:{{keys}}, v:value or i:index")]
    Element(String),
}

/// Whether a path is in a set, and which paths below it are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The path itself is in the set.
    pub own: bool,
    /// What is below.
    pub below: FieldSet,
}

impl Node {
    /// A path with nothing below.
    pub fn leaf() -> Self {
        Self { own: true, below: FieldSet::default() }
    }

    /// Neither the path nor anything below it is in the set.
    pub fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }
}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// By first step. No node is empty.
    nodes: BTreeMap<PathElement, Node>,
}

impl FieldSet {
    /// A set of these paths.
    pub fn of(paths: impl IntoIterator<Item = Path>) -> Self {
        let mut set = Self::default();
        paths.into_iter().for_each(|path| set.insert(path));
        set
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a path. The path to the whole object is in no set.
    pub fn insert(&mut self, path: Path) {
        let mut set = self;
        let mut rest = path.0.into_iter().peekable();
        while let Some(element) = rest.next() {
            let node = set.nodes.entry(element).or_default();
            if rest.peek().is_none() {
                node.own = true;
                return;
            }
            set = &mut node.below;
        }
    }

    /// Puts what is in the set at and below a step. An empty node takes the step away.
    pub fn set_node(&mut self, element: PathElement, node: Node) {
        if node.is_empty() {
            self.nodes.remove(&element);
        } else {
            self.nodes.insert(element, node);
        }
    }

    /// What is in the set at and below a step.
    pub fn node(&self, element: &PathElement) -> Option<&Node> {
        self.nodes.get(element)
    }

    /// What is in the set at and below a step, to be changed. It must not be made empty.
    pub(super) fn nodes_mut(&mut self) -> impl Iterator<Item = (&PathElement, &mut Node)> {
        self.nodes.iter_mut()
    }

    /// Whether a path is in the set.
    pub fn contains(&self, path: &Path) -> bool {
        let Some((last, steps)) = path.0.split_last() else { return false };
        let end = steps.iter().try_fold(self, |set, step| set.node(step).map(|node| &node.below));
        end.and_then(|set| set.node(last)).is_some_and(|node| node.own)
    }

    /// The paths of the set, each before those below it.
    pub fn paths(&self) -> Vec<Path> {
        let mut found = Vec::new();
        self.collect(&mut Path::default(), &mut found);
        found
    }

    fn collect(&self, prefix: &mut Path, found: &mut Vec<Path>) {
        for (element, node) in &self.nodes {
            prefix.0.push(element.clone());
            if node.own {
                found.push(prefix.clone());
            }
            node.below.collect(prefix, found);
            prefix.0.pop();
        }
    }

    /// The paths of the set below which there are no others.
    #[must_use]
    pub fn leaves(&self) -> Self {
        self.each(|node| Node {
            own: node.own && node.below.is_empty(),
            below: node.below.leaves(),
        })
    }

    fn each(&self, change: impl Fn(&Node) -> Node) -> Self {
        let mut set = Self::default();
        for (element, node) in &self.nodes {
            set.set_node(element.clone(), change(node));
        }
        set
    }

    /// What is in either set.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        for (element, node) in other.nodes {
            match self.nodes.entry(element) {
                Entry::Vacant(place) => {
                    place.insert(node);
                }
                Entry::Occupied(mut place) => {
                    let mine = place.get_mut();
                    mine.own |= node.own;
                    mine.below = std::mem::take(&mut mine.below).union(node.below);
                }
            }
        }
        self
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.against(other, |mine, theirs| match theirs {
            None => Node::default(),
            Some(theirs) => {
                Node { own: mine.own && theirs.own, below: mine.below.intersection(&theirs.below) }
            }
        })
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.against(other, |mine, theirs| match theirs {
            None => mine.clone(),
            Some(theirs) => {
                Node { own: mine.own && !theirs.own, below: mine.below.difference(&theirs.below) }
            }
        })
    }

    /// What is in this set and neither in the other nor below a path of it.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.against(other, |mine, theirs| match theirs {
            None => mine.clone(),
            Some(theirs) if theirs.own => Node::default(),
            Some(theirs) => {
                Node { own: mine.own, below: mine.below.recursive_difference(&theirs.below) }
            }
        })
    }

    fn against(&self, other: &Self, change: impl Fn(&Node, Option<&Node>) -> Node) -> Self {
        let mut set = Self::default();
        for (element, node) in &self.nodes {
            set.set_node(element.clone(), change(node, other.node(element)));
        }
        set
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        Value::Object(
            self.nodes.iter().map(|(element, node)| (written(element), node_json(node))).collect(),
        )
    }

    /// Reads the JSON form. Elements of a kind that is not known are left out: a later version may have written them.
    pub fn from_json(json: &Value) -> Result<Self, FieldSetError> {
        let mut set = Self::default();
        for (text, value) in map(json)? {
            if text == "." {
                continue;
            }
            if let Some(element) = read(text)? {
                let fields = map(value)?;
                let own = fields.is_empty() || fields.contains_key(".");
                set.set_node(element, Node { own, below: Self::from_json(value)? });
            }
        }
        Ok(set)
    }
}

fn map(json: &Value) -> Result<&Map<String, Value>, FieldSetError> {
    json.as_object().ok_or_else(|| FieldSetError::NotMap(json.to_string()))
}

fn node_json(node: &Node) -> Value {
    let mut json = node.below.to_json();
    if let (true, false, Some(fields)) = (node.own, node.below.is_empty(), json.as_object_mut()) {
        fields.insert(".".to_owned(), Value::Object(Map::new()));
    }
    json
}

fn written(element: &PathElement) -> String {
    match element {
        PathElement::Field(name) => format!("f:{name}"),
        PathElement::Key(keys) => {
            let keys: Map<String, Value> =
                keys.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
            format!("k:{}", Value::Object(keys))
        }
        PathElement::Value(value) => format!("v:{value}"),
        PathElement::Index(index) => format!("i:{index}"),
    }
}

fn read(text: &str) -> Result<Option<PathElement>, FieldSetError> {
    let wrong = || FieldSetError::Element(text.to_owned());
    let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
    let json = || serde_json::from_str::<Value>(rest).map_err(|_| wrong());
    Ok(Some(match kind {
        "f" => PathElement::Field(rest.to_owned()),
        "v" => PathElement::Value(Atom(json()?)),
        "i" => PathElement::Index(rest.parse().map_err(|_| wrong())?),
        "k" => match json()? {
            Value::Object(keys) if !keys.is_empty() => PathElement::Key(
                keys.into_iter().map(|(name, value)| (name, Atom(value))).collect(),
            ),
            _ => return Err(wrong()),
        },
        _ if kind.len() == 1 => return Ok(None),
        _ => return Err(wrong()),
    }))
}

#[cfg(test)]
#[path = "fieldset_tests.rs"]
pub(super) mod tests;
