//! Answers with gzip.

use std::io::Read as _;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::client::Fixture;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The bytes of an answer to a client that takes gzip, and whether they are packed.
async fn packed(server: &Fixture, path: &str, accept: &str) -> (Vec<u8>, bool) {
    let headers = [("accept-encoding", "deflate, gzip;q=0.5"), ("accept", accept)];
    let answer = server.open("GET", path, &headers, "").await;
    assert_eq!(answer.status().as_u16(), 200);
    let coding = answer.headers().get("content-encoding").cloned();
    if let Some(coding) = &coding {
        assert_eq!(
            (coding, &answer.headers()["vary"]),
            (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
        );
    }
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    (bytes.to_vec(), coding.is_some())
}

#[tokio::test]
async fn large_lists_are_packed_for_clients_that_take_it() {
    let server = Fixture::new().await;
    let value = "0123456789".repeat(400);
    for index in 0..60 {
        let object = json!({"metadata": {"name": format!("m{index:02}")}, "data": {"k": value}});
        assert_eq!(server.post(MAPS, object).await.code, 201);
    }
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    for (path, accept, large) in [
        (MAPS.to_owned(), "application/json", true),
        (MAPS.to_owned(), "application/yaml", true),
        (format!("{MAPS}?includeObject=Object"), table, true),
        (format!("{MAPS}?limit=20"), "application/json", false),
        (MAPS.to_owned(), table, false),
        (MAPS.to_owned(), partial, false),
    ] {
        let plain = server.ask("GET", &path, &[("accept", accept)], "").await;
        assert_eq!(plain.headers.get("content-encoding"), None);
        let (bytes, is_packed) = packed(&server, &path, accept).await;
        assert_eq!(is_packed, large, "{path} as {accept}");
        let mut text = String::new();
        if is_packed {
            assert!(bytes.len() * 10 < plain.text.len(), "{} bytes", bytes.len());
            flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).expect("gzip");
        } else {
            text = String::from_utf8(bytes).expect("text");
        }
        // the age in a table may have moved on by a second
        if accept == table {
            let read = |text: &str| {
                let mut value: Value = serde_json::from_str(text).expect("JSON");
                for row in value["rows"].as_array_mut().expect("rows") {
                    row["cells"].as_array_mut().expect("cells").pop();
                }
                value
            };
            assert_eq!(read(&text), read(&plain.text));
        } else {
            assert_eq!(text, plain.text);
        }
    }
}
