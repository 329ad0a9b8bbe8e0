//! Which requests are logged, and how much of them. The first rule that matches decides.

use serde::Deserialize;

use crate::auth::attributes::{Attributes, Resource, Target};

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when and how it ended.
    Metadata,
    /// And what was sent.
    Request,
    /// And what was answered.
    RequestResponse,
}

/// When it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// Before anything is done.
    RequestReceived,
    /// When the head of a long answer, such as a watch, is sent.
    ResponseStarted,
    /// When the answer has been sent.
    ResponseComplete,
    /// When the handler failed in a way that it should not.
    Panic,
}

/// A policy that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not a policy.
    #[error("the audit policy cannot be read: {0}")]
    Malformed(String),
    /// A rule that cannot be.
    #[error("the audit policy's rules[{index}]: {reason}")]
    Rule {
        /// Which one.
        index: usize,
        /// Why.
        reason: String,
    },
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How much of it is logged.
    pub level: Level,
    /// Whether `metadata.managedFields` is left out of objects.
    pub omit_managed_fields: bool,
    omit_stages: Vec<Stage>,
}

impl Decision {
    /// Whether a stage of it is logged.
    pub fn wants(&self, stage: Stage) -> bool {
        self.level != Level::None && !self.omit_stages.contains(&stage)
    }
}

/// As it is in the file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

impl Default for Policy {
    /// Metadata of everything when it is done, but for who asks all the time whether the server is well.
    fn default() -> Self {
        let quiet = Rule {
            verbs: vec!["get".to_owned()],
            paths: ["/healthz*", "/livez*", "/readyz*", "/version"].map(ToOwned::to_owned).into(),
            ..Rule::all(Level::None)
        };
        Self {
            rules: vec![quiet, Rule::all(Level::Metadata)],
            omit_stages: vec![Stage::RequestReceived],
            omit_managed_fields: true,
        }
    }
}

impl Policy {
    /// Reads a policy (YAML or JSON). A field that we do not know is a mistake: passing over it could log a secret.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let written: Written = serde_saphyr::from_str(text)
            .map_err(|error| PolicyError::Malformed(error.to_string()))?;
        let Written { api_version, kind, rules, omit_stages, omit_managed_fields, .. } = written;
        if (api_version.as_str(), kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            let found = format!("it is {api_version} {kind}, not audit.k8s.io/v1 Policy");
            return Err(PolicyError::Malformed(found));
        }
        if rules.is_empty() {
            return Err(PolicyError::Malformed(
                "it has no rules, so nothing would be logged".to_owned(),
            ));
        }
        for (index, rule) in rules.iter().enumerate() {
            rule.check().map_err(|reason| PolicyError::Rule { index, reason })?;
        }
        Ok(Self { rules, omit_stages, omit_managed_fields })
    }

    /// What is logged of a request. Without a rule that matches: nothing.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let rule = self.rules.iter().find(|rule| rule.matches(attributes));
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(rule.iter().flat_map(|rule| &rule.omit_stages));
        let omit = rule.and_then(|rule| rule.omit_managed_fields);
        Decision {
            level: rule.map_or(Level::None, |rule| rule.level),
            omit_managed_fields: omit.unwrap_or(self.omit_managed_fields),
            omit_stages,
        }
    }
}

impl Rule {
    fn all(level: Level) -> Self {
        Self {
            level,
            users: vec![],
            user_groups: vec![],
            verbs: vec![],
            resources: vec![],
            namespaces: vec![],
            paths: vec![],
            omit_stages: vec![],
            omit_managed_fields: None,
        }
    }

    fn check(&self) -> Result<(), String> {
        let regular = !self.resources.is_empty() || !self.namespaces.is_empty();
        if regular && !self.paths.is_empty() {
            return Err(
                "rules cannot apply to both regular resources and non-resource URLs".to_owned()
            );
        }
        for path in &self.paths {
            let inner = path.strip_suffix('*').unwrap_or(path);
            if inner.contains('*') {
                return Err(format!("nonResourceURLs: {path:?}: '*' may only stand at the end"));
            }
            if path != "*" && !path.starts_with('/') {
                return Err(format!("nonResourceURLs: {path:?} must begin with a '/'"));
            }
        }
        for list in &self.resources {
            if list.group.contains('/') {
                return Err(format!(
                    "resources: the group {:?} must be without a version",
                    list.group
                ));
            }
            if !list.resource_names.is_empty() && list.resources.is_empty() {
                return Err("resources: resourceNames needs resources".to_owned());
            }
        }
        Ok(())
    }

    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        let user = attributes.user;
        let one_of =
            |list: &[String], wanted: &str| list.is_empty() || list.iter().any(|own| own == wanted);
        if !one_of(&self.users, &user.name) || !one_of(&self.verbs, attributes.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !self.user_groups.iter().any(|group| user.is_in(group)) {
            return false;
        }
        let regular = !self.resources.is_empty() || !self.namespaces.is_empty();
        match attributes.target {
            Target::Resource(it) if regular => {
                let of_resources = || self.resources.iter().any(|list| list.matches(&it));
                one_of(&self.namespaces, it.namespace)
                    && (self.resources.is_empty() || of_resources())
            }
            Target::Path(path) if !self.paths.is_empty() => {
                self.paths.iter().any(|own| path_matches(own, path))
            }
            _ => !regular && self.paths.is_empty(),
        }
    }
}

impl GroupResources {
    fn matches(&self, it: &Resource<'_>) -> bool {
        let named = self.resource_names.is_empty()
            || self.resource_names.iter().any(|name| name == it.name);
        let listed = || self.resources.iter().any(|own| resource_matches(own, it));
        self.group == it.group && named && (self.resources.is_empty() || listed())
    }
}

/// `pods` is not its subresources; `pods/*` is those only; `*/scale` is that of all; `*` is everything.
fn resource_matches(own: &str, it: &Resource<'_>) -> bool {
    match own.split_once('/') {
        _ if own == "*" => true,
        None => it.subresource.is_empty() && own == it.resource,
        Some((first, second)) => {
            !it.subresource.is_empty()
                && (first == "*" || first == it.resource)
                && (second == "*" || second == it.subresource)
        }
    }
}

fn path_matches(own: &str, path: &str) -> bool {
    own == path || own.strip_suffix('*').is_some_and(|begin| path.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch], resources: [{resources: [endpoints, services]}]}
- {level: None, userGroups: ["system:nodes"], verbs: [get]}
- {level: Metadata, resources: [{resources: [secrets, configmaps]}, {group: authentication.k8s.io, resources: [tokenreviews]}]}
- {level: Request, resources: [{resources: [pods], resourceNames: [web]}, {resources: ["pods/*"]}], omitManagedFields: true}
- {level: RequestResponse, namespaces: [prod], omitStages: [ResponseStarted]}
- {level: Metadata, resources: [{group: apps, resources: ["*/scale"]}, {group: batch}]}
- {level: None, nonResourceURLs: ["/healthz*", "/version"]}
- {level: Request, nonResourceURLs: ["*"]}
"#;

    fn ask(policy: &Policy, user: &User, verb: &str, what: &str) -> Decision {
        if what.starts_with('/') {
            return policy.decide(&Attributes::at(user, verb, what));
        }
        let (what, name) = what.split_once(' ').unwrap_or((what, ""));
        let (namespace, what) = what.split_once(':').unwrap_or(("", what));
        let (what, subresource) = what.split_once('/').unwrap_or((what, ""));
        let (resource, group) = what.split_once('.').unwrap_or((what, ""));
        policy.decide(&Attributes::on(
            user,
            verb,
            Resource { group, resource, subresource, namespace, name },
        ))
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = Policy::parse(POLICY).unwrap();
        let (ada, proxy) = (User::new("ada", []), User::new("system:kube-proxy", []));
        let node = User::new("system:node:n1", ["system:nodes"]);
        for (user, verb, what, level) in [
            (&proxy, "watch", "services", Level::None),
            (&proxy, "watch", "prod:secrets", Level::Metadata),
            (&node, "get", "prod:secrets x", Level::None),
            (&node, "get", "/metrics", Level::None),
            (&ada, "get", "dev:secrets x", Level::Metadata),
            (&ada, "create", "tokenreviews.authentication.k8s.io", Level::Metadata),
            (&ada, "get", "dev:pods web", Level::Request),
            (&ada, "get", "dev:pods other", Level::None),
            (&ada, "create", "dev:pods/exec other", Level::Request),
            (&ada, "create", "prod:pods other", Level::RequestResponse),
            (&ada, "update", "dev:deployments.apps/scale x", Level::Metadata),
            (&ada, "update", "dev:deployments.apps x", Level::None),
            (&ada, "update", "dev:jobs.batch/status x", Level::Metadata),
            (&ada, "get", "/healthz/etcd", Level::None),
            (&ada, "get", "/metrics", Level::Request),
        ] {
            assert_eq!(ask(&policy, user, verb, what).level, level, "{} {verb} {what}", user.name);
        }
    }

    #[test]
    fn stages_are_left_out_by_policy_and_by_rule() {
        let policy = Policy::parse(POLICY).unwrap();
        let ada = User::new("ada", []);
        let decision = ask(&policy, &ada, "create", "prod:services");
        assert!(!decision.wants(Stage::RequestReceived) && !decision.wants(Stage::ResponseStarted));
        assert!(decision.wants(Stage::ResponseComplete) && decision.wants(Stage::Panic));
        assert!(!decision.omit_managed_fields);
        let decision = ask(&policy, &ada, "get", "dev:pods web");
        assert!(decision.wants(Stage::ResponseStarted) && decision.omit_managed_fields);
        assert!(!ask(&policy, &ada, "get", "/version").wants(Stage::ResponseComplete));
    }

    #[test]
    fn without_a_policy_all_but_probes_is_logged() {
        let (policy, ada) = (Policy::default(), User::new("ada", []));
        assert_eq!(ask(&policy, &ada, "get", "/readyz").level, Level::None);
        assert_eq!(ask(&policy, &ada, "get", "/metrics").level, Level::Metadata);
        assert_eq!(ask(&policy, &ada, "create", "dev:secrets").level, Level::Metadata);
    }

    #[test]
    fn policies_that_cannot_be_are_refused() {
        let with =
            |rule: &str| format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{rule}]");
        for (text, expected) in [
            (with("{level: Metadata, user: [x]}"), "user"),
            (with("{level: Everything}"), "Everything"),
            (
                with("{level: None, namespaces: [a], nonResourceURLs: [/x]}"),
                "both regular resources and non-resource",
            ),
            (with("{level: None, nonResourceURLs: [/a*/b]}"), "'*' may only stand at the end"),
            (with("{level: None, nonResourceURLs: [healthz]}"), "must begin with a '/'"),
            (
                with("{level: None, resources: [{resourceNames: [x]}]}"),
                "resourceNames needs resources",
            ),
            (with("{level: None, resources: [{group: apps/v1}]}"), "without a version"),
            (with(""), "it has no rules"),
            (
                with("{level: None}").replace("k8s.io/v1", "k8s.io/v1beta1"),
                "not audit.k8s.io/v1 Policy",
            ),
        ] {
            let refused = Policy::parse(&text).unwrap_err().to_string();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
