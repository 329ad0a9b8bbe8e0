//! What another plugin answered: its result, its own error, or something that is neither.

use std::process::{ExitStatus, Output};

use serde_json::Value;

use crate::error::{Error, ErrorCode};
use crate::quote::excerpt;

/// An answer that is no success.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The plugin refused with an error document of its own.
    #[error("{0}")]
    Refused(Error),
    /// It failed without saying why in the form that the protocol asks for.
    #[error("it failed ({status}) without an error document{}", quoted(said))]
    Unexplained {
        /// Its exit status.
        status: ExitStatus,
        /// The beginning of what it wrote.
        said: String,
    },
    /// It reported success, but its output is no result.
    #[error("it answered with something that is not JSON{}", quoted(said))]
    NotJson {
        /// The beginning of what it wrote.
        said: String,
    },
    /// It reported success and printed nothing where a result is needed.
    #[error("it answered without a result{}", quoted(said))]
    NoResult {
        /// The beginning of what it wrote to standard error.
        said: String,
    },
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; it said: {said}") }
}

impl AnswerError {
    /// As an error of our own, for a plugin that delegates: the delegate's error keeps its code and words.
    pub(crate) fn into_error(self, plugin: &str) -> Error {
        let msg = |what: &str| format!("plugin {plugin} {what}");
        match self {
            Self::Refused(error) => error,
            Self::Unexplained { status, said } => {
                let what = format!("failed ({status}) without an error document");
                Error::new(ErrorCode::GENERIC, msg(&what)).with_details(said)
            }
            Self::NotJson { said } => {
                let what = "answered with something that is not JSON";
                Error::new(ErrorCode::Decode, msg(what)).with_details(said)
            }
            Self::NoResult { said } => {
                Error::new(ErrorCode::Decode, msg("answered without a result")).with_details(said)
            }
        }
    }
}

/// Reads the answer to a command that has no result. What a plugin prints on success is nobody's business.
pub(crate) fn acknowledged(output: &Output) -> Result<(), AnswerError> {
    if output.status.success() { Ok(()) } else { Err(refusal(output)) }
}

/// Reads the answer to a command that has a result.
pub(crate) fn result(output: &Output) -> Result<Value, AnswerError> {
    if !output.status.success() {
        return Err(refusal(output));
    }
    if output.stdout.trim_ascii().is_empty() {
        return Err(AnswerError::NoResult { said: excerpt(&output.stderr) });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|_| AnswerError::NotJson { said: excerpt(&output.stdout) })
}

fn refusal(output: &Output) -> AnswerError {
    // The reference prints a result *and* an error when a check after the work fails: the error is the last document.
    let documents = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let error = documents.map_while(Result::ok).filter_map(|value| Error::from_json(&value)).last();
    match error {
        Some(error) => AnswerError::Refused(error),
        None => AnswerError::Unexplained {
            status: output.status,
            said: excerpt(if output.stderr.trim_ascii().is_empty() {
                &output.stdout
            } else {
                &output.stderr
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        let status = ExitStatus::from_raw(code << 8);
        Output { status, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn successes() {
        assert_eq!(result(&output(0, " {\"a\": 1}\n", "x")).unwrap(), json!({"a": 1}));
        for ignored in ["", "done", "{} {}"] {
            assert_eq!(acknowledged(&output(0, ignored, "")), Ok(()));
        }
    }

    #[test]
    fn failures_keep_what_was_said() {
        let refused = r#"{"cniVersion": "1.0.0", "code": 11, "msg": "busy", "details": "soon"}"#;
        let after_result = format!("{{\"cniVersion\": \"1.0.0\"}}{refused}");
        let cases = [
            (1, refused, "log", "busy; soon (code 11)"),
            (1, after_result.as_str(), "", "busy; soon (code 11)"),
            (0, "nonsense\n", "", "it answered with something that is not JSON; it said: nonsense"),
            (0, "{} {}", "", "it answered with something that is not JSON; it said: {} {}"),
            (0, " \n", "why", "it answered without a result; it said: why"),
            (7, "out", "", "it failed (exit status: 7) without an error document; it said: out"),
            (
                7,
                "out",
                "err\n",
                "it failed (exit status: 7) without an error document; it said: err",
            ),
            (
                7,
                "{\"msg\": \"no code\"}",
                "",
                "it failed (exit status: 7) without an error document; it said: {\"msg\": \"no code\"}",
            ),
            (7, "", "", "it failed (exit status: 7) without an error document"),
        ];
        for (code, stdout, stderr, expected) in cases {
            let error = result(&output(code, stdout, stderr)).unwrap_err();
            assert_eq!(error.to_string(), expected);
            if code != 0 {
                assert_eq!(acknowledged(&output(code, stdout, stderr)).unwrap_err(), error);
            }
        }
    }

    #[test]
    fn a_delegates_error_keeps_its_code() {
        let own = r#"{"code": 999, "msg": "no IP addresses available in range set: a-b"}"#;
        let error = result(&output(1, own, "")).unwrap_err().into_error("host-local");
        assert_eq!(
            (error.code.code(), error.msg.as_str()),
            (999, "no IP addresses available in range set: a-b")
        );
        let cases = [
            (1, "", 100, "plugin x failed (exit status: 1) without an error document"),
            (0, "", 6, "plugin x answered without a result"),
            (0, "?", 6, "plugin x answered with something that is not JSON"),
        ];
        for (status, stdout, code, message) in cases {
            let error = result(&output(status, stdout, "")).unwrap_err().into_error("x");
            assert_eq!((error.code.code(), error.msg.as_str()), (code, message));
        }
    }

    proptest! {
        #[test]
        fn hostile_output_never_panics(stdout: Vec<u8>, stderr: Vec<u8>, raw: i32) {
            let output = Output { status: ExitStatus::from_raw(raw), stdout, stderr };
            if let Err(error) = result(&output) {
                error.to_string();
                error.into_error("x");
            }
            acknowledged(&output).ok();
        }
    }
}
