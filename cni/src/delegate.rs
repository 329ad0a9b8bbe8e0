//! Calling another plugin from a plugin (SPEC 1.1.0, section 4): the same input and environment, another program. When that
//! program turns out to be this very one, its plugin is called in process; the outcome is the same.

use std::path::Path;

use serde_json::{Map, Value};

use crate::answer;
use crate::args::Command;
use crate::config::{PluginConf, Previous};
use crate::error::{Error, ErrorCode};
use crate::exec::{self, ExecError};
use crate::lookup::{find_plugin, is_own_program};
use crate::plugin::Call;
use crate::result::CniResult;
use crate::version::Version;

impl Call<'_> {
    /// The same call with another configuration: for a plugin that writes its delegate's. Keys that the delegate needs of the
    /// runtime (`runtimeConfig`, `prevResult`, …) are to be in it.
    pub fn with_configuration(&self, raw: Map<String, Value>) -> Result<Call<'_>, Error> {
        let previous = match self.command {
            Command::Add | Command::Check => Previous::Needed,
            _ => Previous::IfReadable,
        };
        let stdin = serde_json::to_vec(&raw).map_err(|error| {
            Error::new(ErrorCode::Decode, "cannot write the delegate's configuration")
                .with_details(error.to_string())
        })?;
        let conf = PluginConf::from_object(raw, Version::ALL, previous)?;
        Ok(Call { conf, stdin, ..self.with_command(self.command) })
    }

    /// ADD of another plugin.
    pub fn delegate_add(&self, plugin_type: &str) -> Result<CniResult, Error> {
        let document = self.delegate(plugin_type, Command::Add)?.ok_or_else(|| {
            Error::new(
                ErrorCode::Decode,
                format!("plugin {plugin_type} answered ADD without a result"),
            )
        })?;
        CniResult::read(&document, self.conf.cni_version).map_err(|error| {
            Error::new(error.code, format!("plugin {plugin_type}: {}", error.msg))
                .with_details(error.details)
        })
    }

    /// CHECK of another plugin.
    pub fn delegate_check(&self, plugin_type: &str) -> Result<(), Error> {
        self.delegate(plugin_type, Command::Check).map(drop)
    }

    /// DEL of another plugin; also used to undo its ADD.
    pub fn delegate_del(&self, plugin_type: &str) -> Result<(), Error> {
        self.delegate(plugin_type, Command::Del).map(drop)
    }

    /// GC of another plugin. Call it from GC only: the list of valid attachments is in the configuration of that call.
    pub fn delegate_gc(&self, plugin_type: &str) -> Result<(), Error> {
        self.delegate(plugin_type, Command::Gc).map(drop)
    }

    /// STATUS of another plugin.
    pub fn delegate_status(&self, plugin_type: &str) -> Result<(), Error> {
        self.delegate(plugin_type, Command::Status).map(drop)
    }

    fn delegate(&self, plugin_type: &str, command: Command) -> Result<Option<Value>, Error> {
        let file = find_plugin(plugin_type, &self.path)
            .map_err(|error| Error::new(ErrorCode::InvalidConfig, error.to_string()))?;
        if is_own_program(&file)
            && let Some(plugin) = self.suite.find(plugin_type)
        {
            return self.with_command(command).dispatch_delegate(plugin);
        }
        let mut variables = self.variables.clone();
        variables.insert("CNI_COMMAND".to_owned(), command.as_str().to_owned());
        let variables: Vec<_> = variables.into_iter().collect();
        // no limit of our own: whoever called us has one, and killing an IPAM plugin half-way would leak
        let output = exec::run(&file, &variables, &self.stdin, None)
            .map_err(|error| not_run(plugin_type, &file, &error))?;
        self.notes.add(&output.stderr);
        match command {
            Command::Add => answer::result(&output).map(Some),
            _ => answer::acknowledged(&output).map(|()| None),
        }
        .map_err(|error| error.into_error(plugin_type))
    }

    fn with_command(&self, command: Command) -> Call<'_> {
        Call {
            command,
            container_id: self.container_id.clone(),
            netns: self.netns.clone(),
            ifname: self.ifname.clone(),
            args: self.args.clone(),
            path: self.path.clone(),
            netns_override: self.netns_override,
            conf: self.conf.clone(),
            valid_attachments: self.valid_attachments.clone(),
            stdin: self.stdin.clone(),
            variables: self.variables.clone(),
            suite: self.suite,
            notes: self.notes.clone(),
        }
    }
}

fn not_run(plugin: &str, file: &Path, error: &ExecError) -> Error {
    let Error { code, msg, details } = Error::from_source(ErrorCode::Io, error);
    Error::new(code, format!("plugin {plugin} ({}): {msg}", file.display())).with_details(details)
}

#[cfg(test)]
#[path = "delegate/tests.rs"]
mod tests;
