//! Calling another plugin from a plugin (SPEC 1.1.0, section 4): the same input and environment, another program. When that
//! program turns out to be this very one, its plugin is called in process; the outcome is the same.

use serde_json::Value;

use crate::args::Command;
use crate::error::{Error, ErrorCode};
use crate::exec::{self, MAX_STDERR};
use crate::lookup::{find_plugin, is_own_program};
use crate::plugin::Call;
use crate::result::CniResult;

impl Call<'_> {
    /// ADD of another plugin.
    pub fn delegate_add(&self, plugin_type: &str) -> Result<CniResult, Error> {
        let document = self.delegate(plugin_type, Command::Add)?.ok_or_else(|| {
            Error::new(
                ErrorCode::Decode,
                format!("plugin {plugin_type} answered ADD without a result"),
            )
        })?;
        CniResult::from_json(&document, self.conf.cni_version).map_err(|error| {
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

    /// GC of another plugin.
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
            return self.with_command(command).dispatch(plugin);
        }
        let mut variables = self.variables.clone();
        variables.insert("CNI_COMMAND".to_owned(), command.as_str().to_owned());
        let variables: Vec<_> = variables.into_iter().collect();
        // no limit of our own: whoever called us has one, and killing an IPAM plugin half-way would leak
        let output = exec::run(&file, &variables, &self.stdin, None).map_err(|error| {
            Error::from_source(ErrorCode::Io, &error)
                .with_details(format!("plugin {}: {error}", file.display()))
        })?;
        read_answer(plugin_type, &output)
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
        }
    }
}

/// A plugin's answer: its document if it succeeded, its own error if it printed one, else what can be said of it.
pub(crate) fn read_answer(
    plugin: &str,
    output: &std::process::Output,
) -> Result<Option<Value>, Error> {
    let text = output.stdout.trim_ascii();
    let document: Option<Value> = serde_json::from_slice(text).ok();
    if output.status.success() {
        if document.is_none() && !text.is_empty() {
            let msg = format!("plugin {plugin} answered with something that is not JSON");
            return Err(Error::new(ErrorCode::Decode, msg).with_details(quote(text)));
        }
        return Ok(document);
    }
    let stderr = quote(output.stderr.trim_ascii());
    if let Some(mut error) = document.as_ref().and_then(Error::from_json) {
        if !stderr.is_empty() {
            let separator = if error.details.is_empty() { "" } else { "; " };
            error.details = format!("{}{separator}standard error: {stderr}", error.details);
        }
        return Err(error);
    }
    let said = if stderr.is_empty() { quote(text) } else { stderr };
    Err(Error::new(
        ErrorCode::GENERIC,
        format!("plugin {plugin} failed ({}) without an error document", output.status),
    )
    .with_details(said))
}

/// At most a screenful of what a program wrote.
fn quote(bytes: &[u8]) -> String {
    const SCREENFUL: usize = 2048;
    let kept = &bytes[..bytes.len().min(SCREENFUL).min(MAX_STDERR)];
    let ellipsis = if kept.len() < bytes.len() { "…" } else { "" };
    format!("{}{ellipsis}", String::from_utf8_lossy(kept))
}
