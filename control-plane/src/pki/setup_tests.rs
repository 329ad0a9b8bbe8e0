//! A directory that is empty, half made, old, foreign or wrong.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use jiff::SignedDuration;

use super::*;
use crate::pki::Serving;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn options(path: &Path) -> PkiOptions {
    PkiOptions {
        directory: path.join("pki"),
        names: vec!["edge-1".to_owned(), "localhost".to_owned()],
        addresses: vec!["10.96.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        server: "https://127.0.0.1:6443".to_owned(),
        serving: None,
    }
}

fn contents(options: &PkiOptions) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(&options.directory).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    });
    named.collect()
}

fn refused(options: &PkiOptions, now: Timestamp) -> String {
    match Pki::open(options, now) {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error.to_string(),
    }
}

fn put(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_empty_directory_is_filled_once() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path());
    let pki = Pki::open(&options, NOW).unwrap();
    let serving = &pki.serving.chain[0];
    assert!(serving.signed_by(&pki.authorities[0]));
    for name in ["kubernetes", "kubernetes.default.svc.cluster.local", "localhost", "edge-1"] {
        assert!(serving.dns_names.iter().any(|found| found == name), "{name}");
    }
    assert_eq!(serving.dns_names.len(), 6, "no name twice: {:?}", serving.dns_names);
    for ip in ["127.0.0.1", "::1", "10.96.0.1", "fd00::1"] {
        assert!(serving.addresses.contains(&ip.parse().unwrap()), "{ip}");
    }
    let first = contents(&options);
    let names: Vec<_> = first.keys().map(String::as_str).collect();
    let expected =
        "admin.crt admin.key admin.kubeconfig apiserver.crt apiserver.key ca.crt ca.key sa.key";
    assert_eq!(names.join(" "), expected);
    for name in ["ca.key", "apiserver.key", "admin.key", "sa.key", "admin.kubeconfig"] {
        let mode = std::fs::metadata(options.directory.join(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    Pki::open(&options, NOW + DAY).unwrap();
    assert_eq!(contents(&options), first, "a second start changes nothing");
}

#[test]
fn the_admin_is_in_the_group_that_is_bound_to_cluster_admin() {
    let place = tempfile::tempdir().unwrap();
    let pki = Pki::open(&options(place.path()), NOW).unwrap();
    let text = std::fs::read_to_string(pki.kubeconfig.unwrap()).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let encoded = config["users"][0]["user"]["client-certificate-data"].as_str().unwrap();
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded);
    let text = String::from_utf8(decoded.unwrap()).unwrap();
    let certificate = Certificate::parse_pem(&text).unwrap().remove(0);
    assert_eq!(certificate.common_name, "kubernetes-admin");
    assert_eq!(certificate.organizations, ["kubeadm:cluster-admins"]);
}

/// What is on the disk after a death between any two steps: every file that was written later is missing.
#[test]
fn a_death_at_any_step_is_repaired_and_nothing_is_overwritten() {
    let order = [
        "ca.key",
        "ca.crt",
        "apiserver.key",
        "apiserver.crt",
        "sa.key",
        "admin.key",
        "admin.crt",
        "admin.kubeconfig",
    ];
    for died_after in 0..order.len() {
        let place = tempfile::tempdir().unwrap();
        let options = options(place.path());
        Pki::open(&options, NOW).unwrap();
        for name in &order[died_after..] {
            std::fs::remove_file(options.directory.join(name)).unwrap();
        }
        std::fs::write(options.directory.join(".sa.key.4194999-3.new"), "half a k").unwrap();
        let kept = contents(&options);
        let pki = Pki::open(&options, NOW + DAY).unwrap();
        let after = contents(&options);
        assert_eq!(after.len(), order.len(), "after {died_after} steps: {:?}", after.keys());
        for name in &order[..died_after] {
            assert_eq!(after[*name], kept[*name], "{name} after {died_after} steps");
        }
        assert!(pki.serving.chain[0].signed_by(&pki.authorities[0]));
        Serving::new(&pki).unwrap();
    }
}

#[test]
fn two_first_starts_at_once_agree() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path());
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let options = options.clone();
            std::thread::spawn(move || Pki::open(&options, NOW).map(|pki| pki.authorities))
        })
        .collect();
    let seen: Vec<_> = starts.into_iter().map(|start| start.join().unwrap().unwrap()).collect();
    let held = Pki::open(&options, NOW).unwrap();
    assert!(seen.iter().all(|authorities| *authorities == held.authorities));
}

#[test]
fn certificates_are_renewed_with_their_keys_before_they_end() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path());
    let pki = Pki::open(&options, NOW).unwrap();
    let serving = Serving::new(&pki).unwrap();
    let first = contents(&options);
    assert!(!serving.reload(&options, NOW + DAY * 200).unwrap());
    assert_eq!(contents(&options), first);
    let later = NOW + DAY * 300;
    assert!(serving.reload(&options, later).unwrap());
    let second = contents(&options);
    let changed: Vec<_> = first.keys().filter(|name| first[*name] != second[*name]).collect();
    assert_eq!(changed, ["admin.crt", "admin.kubeconfig", "apiserver.crt"]);
    let renewed = Pki::open(&options, later).unwrap();
    assert_eq!(renewed.serving.chain[0].end, later + DAY * 365);
    assert_eq!(serving.current().cert[0], renewed.serving.chain[0].der);
}

#[test]
fn a_new_name_of_the_machine_is_a_reason_to_renew() {
    let place = tempfile::tempdir().unwrap();
    let mut options = options(place.path());
    let serving = Serving::new(&Pki::open(&options, NOW).unwrap()).unwrap();
    options.addresses.push("192.0.2.7".parse().unwrap());
    assert!(serving.reload(&options, NOW).unwrap());
    assert!(!serving.reload(&options, NOW).unwrap());
}

#[test]
fn near_the_end_of_the_authority_nothing_is_made_in_vain() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path());
    let pki = Pki::open(&options, NOW).unwrap();
    let near = pki.authorities[0].end - DAY * 10;
    Pki::open(&options, near).unwrap();
    let first = contents(&options);
    Pki::open(&options, near + DAY).unwrap();
    assert_eq!(contents(&options), first);
    let error = refused(&options, pki.authorities[0].end + DAY);
    assert!(error.contains("ca.crt expired at 2037-01-12T"), "{error}");
    assert!(error.contains("keep ca.key, remove ca.crt"), "{error}");
    std::fs::remove_file(options.directory.join("ca.crt")).unwrap();
    let renewed = Pki::open(&options, pki.authorities[0].end + DAY).unwrap();
    assert_eq!(renewed.authorities[0].public_key, pki.authorities[0].public_key);
}

#[test]
fn wrong_clocks_are_named() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path());
    let error = refused(&options, Timestamp::constant(86_400, 0));
    assert!(error.contains("the clock says 1970-01-02T00:00:00Z"), "{error}");
    assert!(!options.directory.exists(), "nothing was made");
    Pki::open(&options, NOW).unwrap();
    Pki::open(&options, NOW - SignedDuration::from_mins(59)).unwrap();
    let error = refused(&options, NOW - DAY);
    assert!(error.contains("ca.crt is valid from") && error.contains("set the clock"), "{error}");
}

#[test]
fn halves_and_strangers_are_refused_with_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path());
    Pki::open(&options, NOW).unwrap();
    let file = |name: &str| options.directory.join(name);
    let key = std::fs::read_to_string(file("apiserver.key")).unwrap();
    let leaf = std::fs::read_to_string(file("apiserver.crt")).unwrap();
    let authority = std::fs::read_to_string(file("ca.crt")).unwrap();
    let cases: [(&str, Option<&str>, u32, &str); 6] = [
        ("apiserver.key", None, 0, "apiserver.key is missing, but"),
        (
            "apiserver.key",
            Some(&generate("x").unwrap().serialize_pem()),
            0o600,
            "is not for the key",
        ),
        ("apiserver.key", Some(&key), 0o640, "can be read by others (mode 0640)"),
        (
            "apiserver.key",
            Some("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
            0o600,
            "openssl pkcs8 -topk8 -nocrypt",
        ),
        ("ca.crt", Some(&leaf), 0o644, "is not a certificate authority"),
        ("ca.crt", Some("nonsense"), 0o644, "does not hold certificates"),
    ];
    for (name, text, mode, expected) in cases {
        match text {
            None => std::fs::remove_file(file(name)).unwrap(),
            Some(text) => put(&file(name), text, mode),
        }
        let error = refused(&options, NOW);
        assert!(error.contains(expected), "{name}: {error}");
        put(&file("apiserver.key"), &key, 0o600);
        put(&file("ca.crt"), &authority, 0o644);
    }
    Pki::open(&options, NOW).unwrap();
}

#[test]
fn an_authority_without_its_key_serves_with_what_is_provided() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path());
    let whole = Pki::open(&options, NOW).unwrap();
    std::fs::remove_file(options.directory.join("ca.key")).unwrap();
    let pki = Pki::open(&options, NOW).unwrap();
    assert!(pki.authority.is_none() && pki.kubeconfig.is_none());
    assert_eq!(pki.authorities, whole.authorities);
    let Err(error) = pki.kubeconfig_for(&Subject::node("n"), "https://x", NOW) else { panic!() };
    assert!(error.to_string().contains("without the key of the authority"), "{error}");
    std::fs::remove_file(options.directory.join("apiserver.crt")).unwrap();
    assert!(refused(&options, NOW).contains("put ca.key or the missing file there"));
}

#[test]
fn a_serving_certificate_of_another_authority_is_never_touched() {
    let place = tempfile::tempdir().unwrap();
    let mut options = options(place.path());
    let other = Authority::make(NOW).unwrap();
    let issued = other.sign(&Subject::new("front"), Purpose::Server, NOW).unwrap();
    let (certificate, key) = (place.path().join("tls.crt"), place.path().join("tls.key"));
    put(&certificate, &issued.certificate, 0o644);
    put(&key, &issued.key, 0o640);
    options.serving = Some((certificate.clone(), key));
    let pki = Pki::open(&options, NOW + DAY * 364).unwrap();
    assert_eq!(std::fs::read_to_string(&certificate).unwrap(), issued.certificate);
    let config = pki.kubeconfig_for(&Subject::node("n1"), "https://x", NOW).unwrap();
    assert!(config.authorities.contains(&issued.certificate), "clients must believe it");
    let error = refused(&options, NOW + DAY * 366);
    assert!(error.contains("tls.crt expired") && error.contains("renew it where"), "{error}");
}
