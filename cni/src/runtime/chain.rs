//! Calling the plugins of a list: ADD forwards, DEL backwards, the result handed from one to the next.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::cache::CachedAttachment;
use super::error::RuntimeError;
use super::list::{NetworkList, PluginEntry, document};
use super::{Attachment, Runtime};
use crate::answer;
use crate::args::Command;
use crate::exec;
use crate::lookup::find_plugin;
use crate::result::CniResult;
use crate::version::Version;

impl Runtime {
    /// Attaches a container: every plugin in order, then the result is kept. On an error the caller calls [`Runtime::del`],
    /// as the specification asks; plugins take a DEL of what was never made.
    pub fn add(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
    ) -> Result<CniResult, RuntimeError> {
        self.cache.validate(&list.name, attachment)?;
        let mut previous = None;
        for entry in &list.plugins {
            let mut additions = runtime_config(entry, attachment);
            previous_result(&mut additions, previous.as_ref());
            previous = self.call(Command::Add, list, entry, Some(attachment), additions)?;
        }
        let result = previous.unwrap_or_else(|| json!({ "cniVersion": list.cni_version.as_str() }));
        self.cache.write(list, attachment, &result)?;
        CniResult::from_json(&result, list.cni_version)
            .map_err(|error| RuntimeError::Result { network: list.name.clone(), error })
    }

    /// Checks an attachment. Nothing is done where the list's version has no CHECK or the list disables it.
    pub fn check(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), RuntimeError> {
        if list.disable_check || list.cni_version < Version::V0_4_0 {
            return Ok(());
        }
        let cached = self.cache.read(&list.name, &attachment.container_id, &attachment.ifname)?;
        let cached = cached.ok_or_else(|| RuntimeError::NotAttached {
            network: list.name.clone(),
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
        })?;
        for entry in &list.plugins {
            let mut additions = runtime_config(entry, attachment);
            previous_result(&mut additions, Some(&cached.result));
            self.call(Command::Check, list, entry, Some(attachment), additions)?;
        }
        Ok(())
    }

    /// Detaches a container, in reverse order, with the configuration and the result of its ADD where they are known: the
    /// list may have changed or gone since. Without either there is nothing to call.
    ///
    /// Unlike libcni this does not stop at the first plugin that fails: what the others hold would leak until that one is
    /// mended. The cached result goes only when all succeeded, so that DEL can be called again.
    pub fn del(
        &self,
        list: Option<&NetworkList>,
        attachment: &Attachment,
    ) -> Result<(), RuntimeError> {
        let mut errors = Vec::new();
        for (network, cached) in self.known(list, attachment, &mut errors)? {
            let kept = cached.as_ref().and_then(|cached| cached.list().ok());
            let Some(list) = kept.as_ref().or(list) else { continue };
            let attachment = cached
                .as_ref()
                .map_or_else(|| attachment.clone(), |cached| with_memory(attachment, cached));
            let before = errors.len();
            for entry in list.plugins.iter().rev() {
                let mut additions = runtime_config(entry, &attachment);
                if list.cni_version >= Version::V0_4_0 {
                    previous_result(&mut additions, cached.as_ref().map(|cached| &cached.result));
                }
                errors.extend(
                    self.call(Command::Del, list, entry, Some(&attachment), additions).err(),
                );
            }
            if errors.len() == before {
                self.cache.remove(&network, &attachment)?;
            }
        }
        RuntimeError::collect(errors)
    }

    /// The networks that an attachment is known on: the given one, or all that the cache has. A cache file that cannot be
    /// read is an error to report, and no reason to give up: the list alone is mostly enough to detach.
    fn known(
        &self,
        list: Option<&NetworkList>,
        attachment: &Attachment,
        errors: &mut Vec<RuntimeError>,
    ) -> Result<Vec<(String, Option<CachedAttachment>)>, RuntimeError> {
        if let Some(list) = list {
            self.cache.validate(&list.name, attachment)?;
            let cached = self.cache.read(&list.name, &attachment.container_id, &attachment.ifname);
            return Ok(vec![(list.name.clone(), cached.unwrap_or(None))]);
        }
        let (all, unreadable) = self.cache.read_all();
        errors.extend(unreadable);
        let same = |cached: &CachedAttachment| {
            cached.attachment.container_id == attachment.container_id
                && cached.attachment.ifname == attachment.ifname
        };
        Ok(all
            .into_iter()
            .filter(same)
            .map(|cached| (cached.network.clone(), Some(cached)))
            .collect())
    }

    /// Releases what belongs to attachments of this network that are not valid any more: DEL for those that the cache knows,
    /// then GC of each plugin (1.1.0). `valid` are pairs of container id and interface.
    pub fn gc(&self, list: &NetworkList, valid: &[(String, String)]) -> Result<(), RuntimeError> {
        if list.disable_gc {
            return Ok(());
        }
        let (all, mut errors) = self.cache.read_all();
        for cached in all.into_iter().filter(|cached| cached.network == list.name) {
            let is_same = |(id, ifname): &(String, String)| {
                *id == cached.attachment.container_id && *ifname == cached.attachment.ifname
            };
            if !valid.iter().any(is_same) {
                errors.extend(self.del(Some(list), &cached.attachment).err());
            }
        }
        if list.cni_version >= Version::V1_1_0 {
            let pairs: Vec<_> = valid
                .iter()
                .map(|(id, ifname)| json!({ "containerID": id, "ifname": ifname }))
                .collect();
            for entry in &list.plugins {
                let mut additions = Map::new();
                // the second spelling is what the first libcni with GC wrote
                additions.insert("cni.dev/valid-attachments".to_owned(), json!(pairs));
                additions.insert("cni.dev/attachments".to_owned(), json!(pairs));
                errors.extend(self.call(Command::Gc, list, entry, None, additions).err());
            }
        }
        RuntimeError::collect(errors)
    }

    /// Whether the network could take a container now. Before 1.1.0: whether its plugins are there.
    pub fn status(&self, list: &NetworkList) -> Result<(), RuntimeError> {
        for entry in &list.plugins {
            if list.cni_version >= Version::V1_1_0 {
                self.call(Command::Status, list, entry, None, Map::new())?;
            } else {
                self.find(&list.name, entry)?;
            }
        }
        Ok(())
    }

    /// The versions that a plugin speaks.
    pub fn version(&self, plugin_type: &str) -> Result<Vec<String>, RuntimeError> {
        let entry = PluginEntry {
            plugin_type: plugin_type.to_owned(),
            capabilities: Vec::new(),
            raw: Map::new(),
        };
        let document =
            self.run(Command::Version, "-", &entry, None, b"{\"cniVersion\": \"1.0.0\"}")?;
        let supported =
            document.as_ref().and_then(|document| document.get("supportedVersions")?.as_array());
        Ok(supported
            .into_iter()
            .flatten()
            .filter_map(|word| Some(word.as_str()?.to_owned()))
            .collect())
    }

    fn find(&self, network: &str, entry: &PluginEntry) -> Result<PathBuf, RuntimeError> {
        find_plugin(&entry.plugin_type, &self.bin_dirs)
            .map_err(|source| RuntimeError::Lookup { network: network.to_owned(), source })
    }

    fn call(
        &self,
        command: Command,
        list: &NetworkList,
        entry: &PluginEntry,
        attachment: Option<&Attachment>,
        additions: Map<String, Value>,
    ) -> Result<Option<Value>, RuntimeError> {
        self.run(command, &list.name, entry, attachment, &document(list, entry, additions))
    }

    fn run(
        &self,
        command: Command,
        network: &str,
        entry: &PluginEntry,
        attachment: Option<&Attachment>,
        stdin: &[u8],
    ) -> Result<Option<Value>, RuntimeError> {
        let plugin = self.find(network, entry)?;
        let variables = self.variables(command, attachment);
        let output =
            exec::run(&plugin, &variables, stdin, Some(self.timeout)).map_err(|source| {
                RuntimeError::Exec {
                    network: network.to_owned(),
                    command: command.as_str(),
                    plugin: plugin.clone(),
                    source,
                }
            })?;
        match command {
            Command::Add | Command::Version => answer::result(&output).map(Some),
            _ => answer::acknowledged(&output).map(|()| None),
        }
        .map_err(|error| RuntimeError::Plugin {
            network: network.to_owned(),
            command: command.as_str(),
            plugin,
            error,
        })
    }

    fn variables(
        &self,
        command: Command,
        attachment: Option<&Attachment>,
    ) -> Vec<(String, String)> {
        let path: Vec<_> =
            self.bin_dirs.iter().map(|directory| directory.to_string_lossy()).collect();
        let mut variables = vec![
            ("CNI_COMMAND".to_owned(), command.as_str().to_owned()),
            ("CNI_PATH".to_owned(), path.join(":")),
        ];
        if let Some(attachment) = attachment {
            let netns = attachment
                .netns
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default();
            let args: Vec<_> =
                attachment.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
            variables.push(("CNI_CONTAINERID".to_owned(), attachment.container_id.clone()));
            variables.push(("CNI_NETNS".to_owned(), netns));
            variables.push(("CNI_IFNAME".to_owned(), attachment.ifname.clone()));
            variables.push(("CNI_ARGS".to_owned(), args.join(";")));
        }
        variables
    }
}

/// The capability arguments that a plugin declares.
fn runtime_config(entry: &PluginEntry, attachment: &Attachment) -> Map<String, Value> {
    let declared = |name: &String| entry.capabilities.contains(name);
    let given: Map<_, _> = attachment
        .capabilities
        .iter()
        .filter(|(name, _)| declared(name))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut additions = Map::new();
    if !given.is_empty() {
        additions.insert("runtimeConfig".to_owned(), Value::Object(given));
    }
    additions
}

fn previous_result(additions: &mut Map<String, Value>, result: Option<&Value>) {
    if let Some(result) = result {
        additions.insert("prevResult".to_owned(), result.clone());
    }
}

/// The attachment of a DEL: the caller may know less than its ADD did.
fn with_memory(given: &Attachment, cached: &CachedAttachment) -> Attachment {
    let mut attachment = given.clone();
    if attachment.args.is_empty() {
        attachment.args.clone_from(&cached.attachment.args);
    }
    if attachment.capabilities.is_empty() {
        attachment.capabilities.clone_from(&cached.attachment.capabilities);
    }
    attachment
}
