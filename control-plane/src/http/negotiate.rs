//! In which form a client wants its answer.

use hyper::HeaderMap;
use hyper::header::ACCEPT;

use crate::api::status::Status;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// What an object is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    Object,
    /// `meta.k8s.io/v1 Table`.
    Table,
    /// Only its metadata.
    Partial,
}

/// One type of an Accept header.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Such as `application/json`.
    pub media: String,
    /// The parameters, in order.
    pub parameters: Vec<(String, String)>,
    quality: f32,
}

impl Wanted {
    /// A parameter; empty for none.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Longer headers are not read on.
const MOST_WANTED: usize = 32;

/// What a client takes, best first. Without a header it takes everything.
pub fn wanted(headers: &HeaderMap) -> Vec<Wanted> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut all: Vec<Wanted> = values
        .flat_map(|value| value.split(','))
        .map(one)
        .filter(|one| !one.media.is_empty())
        .take(MOST_WANTED)
        .collect();
    if all.is_empty() {
        all.push(one("*/*"));
    }
    all.retain(|one| one.quality > 0.0);
    all.sort_by(|one, other| other.quality.total_cmp(&one.quality));
    all
}

fn one(text: &str) -> Wanted {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let parameters: Vec<(String, String)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| {
            (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned())
        })
        .collect();
    let quality =
        parameters.iter().find(|(key, _)| key == "q").and_then(|(_, value)| value.parse().ok());
    Wanted {
        media,
        quality: quality.filter(|q: &f32| (0.0..=1.0).contains(q)).unwrap_or(1.0),
        parameters,
    }
}

fn encoding(media: &str) -> Option<Encoding> {
    match media {
        "application/json" | "application/*" | "*/*" => Some(Encoding::Json),
        "application/yaml" => Some(Encoding::Yaml),
        _ => None,
    }
}

/// How objects are written, and as what.
pub fn objects(headers: &HeaderMap) -> Result<(Encoding, Form), Status> {
    let found = wanted(headers).iter().find_map(|wanted| {
        let encoding = encoding(&wanted.media)?;
        let meta = wanted.parameter("g") == "meta.k8s.io" && wanted.parameter("v") == "v1";
        match wanted.parameter("as") {
            "" => Some((encoding, Form::Object)),
            "Table" if meta => Some((encoding, Form::Table)),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if meta => {
                Some((encoding, Form::Partial))
            }
            _ => None,
        }
    });
    found.ok_or_else(|| Status::not_acceptable(&["application/json", "application/yaml"]))
}

/// The content type of a form.
pub fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Yaml => "application/yaml",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Result<(Encoding, Form), u16> {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        objects(&headers).map_err(|status| status.code())
    }

    #[test]
    fn the_best_form_that_is_known_is_taken() {
        use {Encoding::*, Form::*};
        for (accept, expected) in [
            ("", Ok((Json, Object))),
            ("*/*", Ok((Json, Object))),
            ("application/vnd.kubernetes.protobuf,application/json", Ok((Json, Object))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Ok((Json, Table)),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Ok((Json, Object)),
            ),
            ("application/json;q=0.1, application/yaml", Ok((Yaml, Object))),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Ok((Json, Partial)),
            ),
            ("application/vnd.kubernetes.protobuf", Err(406)),
            ("application/json;q=0", Err(406)),
            ("text/html", Err(406)),
        ] {
            assert_eq!(of(accept), expected, "{accept}");
        }
    }
}
