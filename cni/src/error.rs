//! Error codes and the error document (SPEC 1.1.0, "Error").

use std::fmt;

use serde_json::{Value, json};

use crate::version::Version;

/// A code of the specification, or one of a plugin's own (100 and up).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 1: the configuration's version is not supported.
    IncompatibleVersion,
    /// 2: a field of the configuration is not supported; the message names it.
    UnsupportedField,
    /// 3: the container is unknown or gone; nothing has to be cleaned up.
    UnknownContainer,
    /// 4: a `CNI_…` variable is missing or wrong.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: the input could not be decoded.
    Decode,
    /// 7: the configuration is wrong.
    InvalidConfig,
    /// 11: a passing condition; the runtime should call again.
    TryAgainLater,
    /// 50: STATUS: the plugin cannot serve ADD.
    NotAvailable,
    /// 51: STATUS: the plugin cannot serve ADD and existing containers have limited connectivity.
    LimitedConnectivity,
    /// 100 and up: the plugin's own; also whatever else another plugin answered.
    Plugin(u32),
}

impl ErrorCode {
    /// The failure of a step that no code of the specification describes.
    pub const GENERIC: Self = Self::Plugin(100);

    /// The number on the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Plugin(code) => code,
        }
    }
}

impl From<u32> for ErrorCode {
    fn from(code: u32) -> Self {
        match code {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfig,
            11 => Self::TryAgainLater,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            other => Self::Plugin(other),
        }
    }
}

/// What a plugin answers when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The code.
    pub code: ErrorCode,
    /// One sentence: what failed, on which object, why.
    pub msg: String,
    /// The causes behind it, or what to do; may be empty.
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: ErrorCode, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// From any error: the message is its own, the details are the chain of its sources.
    pub fn from_source(code: ErrorCode, error: &dyn std::error::Error) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self { code, msg: error.to_string(), details: causes.join(": ") }
    }

    /// The error document.
    pub fn to_json(&self, version: Version) -> Value {
        let mut document = json!({
            "cniVersion": version.as_str(),
            "code": self.code.code(),
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            document["details"] = json!(self.details);
        }
        document
    }

    /// Reads an error document; `None` if the value is none.
    pub fn from_json(value: &Value) -> Option<Self> {
        let code = u32::try_from(value.get("code")?.as_u64()?).ok()?;
        let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self { code: code.into(), msg: text("msg"), details: text("details") })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        write!(f, " (code {})", self.code.code())
    }
}

impl std::error::Error for Error {}
