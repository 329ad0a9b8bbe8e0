//! Addresses of the web, as Go's `url.ParseRequestURI` reads them: a scheme, or a path that begins with a slash.

use std::rc::Rc;

use percent_encoding::percent_decode_str;

use super::super::budget::{Budget, Fault};
use super::super::value::{Map, Result, Val};
use super::{Answer, convert};

/// An address in its parts.
#[derive(Debug)]
pub(in super::super) struct Url {
    text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], budget: &Budget) -> Answer<'a> {
    match (name, args) {
        ("url" | "isURL", [Val::String(text)]) => {
            let url = Url::read(text);
            if name == "isURL" {
                return Some(Ok(Val::Bool(url.is_some())));
            }
            let wrong = || {
                let text = convert::short(text);
                Fault::Error(format!("URL parse error during conversion from string: {text:?}"))
            };
            Some(url.map(|url| Val::Url(Rc::new(url))).ok_or_else(wrong))
        }
        (_, [Val::Url(url)]) => {
            if let Err(fault) = budget.text(url.text.len()) {
                return Some(Err(fault));
            }
            if name == "getQuery" {
                return Some(url.query(budget));
            }
            url.part(name).map(Ok)
        }
        _ => None,
    }
}

impl Url {
    /// The address as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn read(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(|sign| sign.is_ascii_control()) {
            return None;
        }
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self {
            text: text.to_owned(),
            scheme,
            host: String::new(),
            path: String::new(),
            query: query.to_owned(),
        };
        if !rest.starts_with('/') {
            // opaque, such as mailto:a@b
            return (!url.scheme.is_empty()).then_some(url);
        }
        let mut path = rest;
        if let Some(after) = rest
            .strip_prefix("//")
            .filter(|after| !url.scheme.is_empty() || !after.starts_with('/'))
        {
            let end = after.find('/').unwrap_or(after.len());
            let (authority, below) = after.split_at(end);
            url.host = host(authority)?;
            path = below;
        }
        url.path = escaped(path)?;
        Some(url)
    }

    fn split_host(&self) -> (&str, &str) {
        let behind = self.host.rfind(']').map_or(0, |at| at + 1);
        match self.host[behind..].find(':') {
            Some(at) => (&self.host[..behind + at], &self.host[behind + at + 1..]),
            None => (&self.host, ""),
        }
    }

    fn part<'a>(&self, name: &str) -> Option<Val<'a>> {
        let text = match name {
            "getScheme" => self.scheme.as_str(),
            "getHost" => self.host.as_str(),
            "getHostname" => self.split_host().0.trim_start_matches('[').trim_end_matches(']'),
            "getPort" => self.split_host().1,
            "getEscapedPath" => self.path.as_str(),
            _ => return None,
        };
        Some(Val::made(text))
    }

    /// Values by their names; what is not encoded rightly is left out.
    fn query<'a>(&self, budget: &Budget) -> Result<Val<'a>> {
        let mut found: Vec<(String, Vec<Val<'a>>)> = Vec::new();
        for part in self.query.split('&').filter(|part| !part.is_empty() && !part.contains(';')) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else { continue };
            budget.items(found.len() + 1)?;
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(Val::made(value)),
                None => found.push((name, vec![Val::made(value)])),
            }
        }
        let entries = found.into_iter().map(|(name, values)| (Val::made(name), Val::list(values)));
        Ok(Val::Map(Map::Made(Rc::new(entries.collect()))))
    }
}

/// The scheme in lower case, and what follows its colon.
fn scheme(text: &str) -> Option<(String, &str)> {
    let end = text.find(|sign: char| !sign.is_ascii_alphanumeric() && !"+-.".contains(sign));
    match end {
        Some(0) if text.starts_with(':') => None,
        Some(end) if text[end..].starts_with(':') => {
            let first = text.starts_with(|sign: char| sign.is_ascii_alphabetic());
            first.then(|| (text[..end].to_ascii_lowercase(), &text[end + 1..]))
        }
        _ => Some((String::new(), text)),
    }
}

/// The host with its port; what is before an `@` is no part of it.
fn host(authority: &str) -> Option<String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match host.strip_prefix('[') {
        Some(inner) => {
            let (address, port) = inner.split_once(']')?;
            address.split('%').next()?.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => match host.rfind(':') {
            Some(at) => host.split_at(at),
            None => (host, ""),
        },
    };
    let port = port
        .strip_prefix(':')
        .map_or(port.is_empty(), |port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let allowed = |sign: char| {
        !sign.is_ascii() || sign.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(sign)
    };
    (port && name.chars().all(allowed)).then(|| host.to_owned())
}

/// A path with what may not stand in it encoded; `None` if something is encoded wrongly.
fn escaped(path: &str) -> Option<String> {
    let mut escaped = String::with_capacity(path.len());
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'%' => {
                let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
                if !hex(at + 1) || !hex(at + 2) {
                    return None;
                }
                escaped.push('%');
            }
            byte if byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/[]".contains(byte) => {
                escaped.push(char::from(*byte));
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(escaped)
}

fn decoded(text: &str) -> Option<String> {
    escaped(text)?;
    percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(Into::into)
}
