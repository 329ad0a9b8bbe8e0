//! The kinds that the server knows.

use serde_json::Value;

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the kinds need no explanation")]
pub enum Resource {
    Services,
    EndpointSlices,
    Nodes,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Services, Self::EndpointSlices, Self::Nodes];

    /// `kind` of an object.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Services => "Service",
            Self::EndpointSlices => "EndpointSlice",
            Self::Nodes => "Node",
        }
    }

    /// `apiVersion` of an object.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::EndpointSlices => "discovery.k8s.io/v1",
            Self::Services | Self::Nodes => "v1",
        }
    }

    /// The word in a path.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
        }
    }

    /// Whether its objects are in namespaces.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Nodes)
    }

    /// The kind of an object.
    pub fn of(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| object["kind"] == resource.kind())
    }

    /// What a path names: the kind, the namespace and the name.
    pub fn of_path(path: &str) -> Option<(Self, Option<&str>, Option<&str>)> {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        let (version, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("v1", rest),
            ["apis", "discovery.k8s.io", "v1", rest @ ..] => ("discovery.k8s.io/v1", rest),
            _ => return None,
        };
        let (namespace, plural, name) = match rest {
            ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
            ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
            [plural] => (None, *plural, None),
            [plural, name] => (None, *plural, Some(*name)),
            _ => return None,
        };
        let of = |resource: &Self| resource.plural() == plural && resource.api_version() == version;
        Some((Self::ALL.into_iter().find(of)?, namespace, name))
    }
}
