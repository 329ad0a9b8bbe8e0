//! nf_tables in the real kernel, and the bytes that go there.

mod bytes;
mod monitor;
mod packets;
mod rules;
mod sets;

use serde_json::Value as Json;

use super::*;
use crate::testing::TestNetns;

const INET: Table<'static> = Table::new(Family::Inet, "t");

fn open(ns: &TestNetns) -> Nftables {
    Nftables::open_in(ns.ns()).unwrap()
}

/// A chain `c` to jump to, in a table `t` of this family.
fn with_chain(family: Family) -> Batch {
    let table = Table::new(family, "t");
    let mut batch = Batch::new();
    batch.add_table(table).add_chain(table, &Chain::new("c"));
    batch
}

/// What `nft -j list ruleset` says, without its own version.
fn ruleset(ns: &TestNetns) -> Vec<Json> {
    let mut json = ns.json(&["nft", "-j", "list", "ruleset"]);
    let list = json["nftables"].as_array_mut().unwrap();
    list.drain(1..).collect()
}

fn refusal(error: NftError) -> (String, i32, Option<String>) {
    match error {
        NftError::Refused { operation, errno, culprit, .. } => (operation, errno, culprit),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tables_and_chains_with_what_nft_knows_of_them() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let before = nft.generation().unwrap();
    let mut batch = Batch::new();
    batch.add_table_with(INET, Some("a table"));
    let chain = Chain { comment: Some("a chain"), ..Chain::new("regular") };
    batch.add_chain(INET, &chain);
    let base = Chain::base("post", ChainKind::Nat, Hook::Postrouting, priority::SRCNAT);
    batch.add_chain(INET, &base.with_policy(Policy::Drop));
    let bridge = Table::new(Family::Bridge, "b");
    let pre = Chain::base("pre", ChainKind::Filter, Hook::Prerouting, priority::BRIDGE_DSTNAT);
    batch.add_table(bridge).add_chain(bridge, &pre);
    assert_eq!(batch.len(), 5);
    nft.commit(&batch).unwrap();
    assert!(nft.generation().unwrap() > before);

    let text = ns.cmd(&["nft", "list", "ruleset"]);
    assert!(text.contains("comment \"a chain\""), "{text}");
    assert!(text.contains("type nat hook postrouting priority srcnat; policy drop;"), "{text}");
    assert!(text.contains("type filter hook prerouting priority dstnat; policy accept;"), "{text}");

    let tables = nft.tables().unwrap();
    let found: Vec<_> = tables.iter().map(|t| (t.id(), t.comment.as_deref(), t.owner)).collect();
    assert_eq!(found, [(INET, Some("a table"), None), (bridge, None, None)]);
    let chains = nft.chains(INET).unwrap();
    let listed = ruleset(&ns);
    for chain in &chains {
        let theirs = listed.iter().find(|o| o["chain"]["name"] == *chain.name).unwrap();
        assert_eq!(theirs["chain"]["handle"], chain.handle);
    }
    assert_eq!((&*chains[0].name, chains[0].base), ("regular", None));
    assert_eq!(chains[0].comment.as_deref(), Some("a chain"));
    assert_eq!(chains[1].base, base.with_policy(Policy::Drop).base);
    assert!(nft.has_table(INET).unwrap() && nft.has_chain(INET, "post").unwrap());
    assert!(!nft.has_chain(INET, "pre").unwrap() && !nft.has_chain(bridge, "post").unwrap());

    let mut batch = Batch::new();
    batch.delete_chain(INET, "regular").delete_table(bridge);
    nft.commit(&batch).unwrap();
    assert!(!nft.has_table(bridge).unwrap());
    assert_eq!(nft.chains(INET).unwrap().len(), 1);
    assert_eq!(nft.chains(bridge).unwrap(), []);
}

#[test]
fn what_is_there_is_no_error_and_does_not_change() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let base = Chain::base("c", ChainKind::Filter, Hook::Input, 0).with_policy(Policy::Drop);
    let mut batch = Batch::new();
    batch.add_table(INET).add_chain(INET, &base);
    nft.commit(&batch).unwrap();
    nft.commit(&batch).unwrap();
    let mut again = Batch::new();
    again.add_table(INET).add_chain(INET, &Chain::base("c", ChainKind::Filter, Hook::Input, 0));
    nft.commit(&again).unwrap();
    assert_eq!(nft.chains(INET).unwrap()[0].base.unwrap().policy, Some(Policy::Drop));
    nft.commit(&Batch::new()).unwrap();
}

#[test]
fn an_owned_table_goes_with_its_socket_and_is_nobody_else_s() {
    let ns = TestNetns::new("nft");
    let (mut nft, mut other) = (open(&ns), open(&ns));
    let mut batch = Batch::new();
    batch.add_owned_table(INET);
    nft.commit(&batch).unwrap();
    assert!(other.tables().unwrap()[0].owner.is_some());
    let mut delete = Batch::new();
    delete.delete_table(INET);
    let (operation, errno, _) = refusal(other.commit(&delete).unwrap_err());
    assert_eq!((&*operation, errno), ("delete table inet t", libc::EPERM));
    drop(nft);
    let start = std::time::Instant::now();
    while other.has_table(INET).unwrap() {
        assert!(start.elapsed().as_secs() < 20, "an owned table goes with its owner");
    }
}

type Change = fn(&mut Batch);

#[test]
fn one_refusal_undoes_all_and_names_what_is_wrong() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    nft.commit(&with_chain(Family::Inet)).unwrap();
    let before = ns.cmd(&["nft", "-a", "list", "ruleset"]);
    let cases: [(Change, &str, i32, Option<&str>); 7] = [
        (
            |b| _ = b.add_rule(INET, "nowhere", &INET.rule().accept()),
            "add a rule to chain nowhere in table inet t",
            libc::ENOENT,
            Some("nowhere"),
        ),
        (
            |b| _ = b.add_rule(INET, "c", &INET.rule().jump("gone")),
            "add a rule to chain c in table inet t",
            libc::ENOENT,
            Some("gone"),
        ),
        (
            |b| _ = b.add_rule(INET, "c", &INET.rule().in_set(&[Field::IpSaddr], "gone")),
            "add a rule to chain c in table inet t",
            libc::ENOENT,
            Some("gone"),
        ),
        (
            |b| _ = b.delete_rule(INET, "c", 99),
            "delete a rule of chain c in table inet t",
            libc::ENOENT,
            None,
        ),
        (
            |b| _ = b.delete_chain(INET, "x"),
            "delete chain x in table inet t",
            libc::ENOENT,
            Some("x"),
        ),
        (
            |b| _ = b.flush_set(INET, "s"),
            "delete elements of set s in table inet t",
            libc::ENOENT,
            Some("s"),
        ),
        (
            |b| _ = b.delete_table(Table::new(Family::Ip6, "t")),
            "delete table ip6 t",
            libc::ENOENT,
            Some("t"),
        ),
    ];
    for (change, operation, errno, culprit) in cases {
        let mut batch = Batch::new();
        batch.add_table(Table::new(Family::Ip, "new")).add_chain(INET, &Chain::new("new"));
        change(&mut batch);
        batch.add_chain(INET, &Chain::new("later"));
        let error = nft.commit(&batch).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        let found = refusal(error);
        assert_eq!((&*found.0, found.1), (operation, errno));
        if let Some(culprit) = culprit {
            assert_eq!(found.2.as_deref(), Some(culprit), "{operation}");
        }
        assert_eq!(ns.cmd(&["nft", "-a", "list", "ruleset"]), before);
    }
}

#[test]
fn what_fails_only_at_the_end_is_told_too() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let mut batch = with_chain(Family::Inet);
    batch.add_chain(INET, &Chain::base("in", ChainKind::Filter, Hook::Input, 0));
    batch.add_chain(INET, &Chain::new("d"));
    batch.add_rule(INET, "in", &INET.rule().jump("c"));
    batch.add_rule(INET, "c", &INET.rule().jump("d"));
    nft.commit(&batch).unwrap();
    let mut circle = Batch::new();
    circle.add_rule(INET, "d", &INET.rule().jump("c"));
    let error = nft.commit(&circle).unwrap_err();
    assert!(matches!(error.errno(), Some(libc::EMLINK | libc::ELOOP)), "{error}");
    let mut used = Batch::new();
    used.delete_chain(INET, "d");
    let error = nft.commit(&used).unwrap_err();
    assert!(error.is_busy(), "{error}");
    assert_eq!(
        error.to_string(),
        "cannot delete chain d in table inet t: Device or resource busy, at `d`; something still uses it"
    );
}

#[test]
fn a_batch_for_a_past_generation_changes_nothing() {
    let ns = TestNetns::new("nft");
    let (mut nft, mut other) = (open(&ns), open(&ns));
    let generation = nft.generation().unwrap();
    let mut batch = Batch::at_generation(generation);
    batch.add_table(INET);
    let mut meanwhile = Batch::new();
    meanwhile.add_table(Table::new(Family::Ip, "other"));
    other.commit(&meanwhile).unwrap();
    assert!(matches!(nft.commit(&batch), Err(NftError::Changed)));
    assert!(!nft.has_table(INET).unwrap());
    let mut batch = Batch::at_generation(nft.generation().unwrap());
    batch.add_table(INET);
    nft.commit(&batch).unwrap();
    assert!(nft.has_table(INET).unwrap());
}

#[test]
fn names_and_comments_that_cannot_be_are_not_sent() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let long = "x".repeat(256);
    for name in ["", "a\0b", &long] {
        let mut batch = Batch::new();
        batch.add_table(Table::new(Family::Ip, name));
        assert!(matches!(nft.commit(&batch), Err(NftError::Invalid { .. })), "{name}");
        assert!(matches!(
            nft.has_table(Table::new(Family::Ip, name)),
            Err(NftError::Invalid { .. })
        ));
    }
    for comment in ["a\0b", &long[..129]] {
        let mut batch = with_chain(Family::Inet);
        batch.add_rule(INET, "c", &INET.rule().comment(comment));
        assert!(matches!(nft.commit(&batch), Err(NftError::Invalid { .. })), "{comment}");
    }
    let mut batch = with_chain(Family::Inet);
    batch.add_rule(INET, "c", &INET.rule().comment(&long[..128]));
    nft.commit(&batch).unwrap();
    assert_eq!(nft.rules(INET, None).unwrap()[0].comment.as_deref(), Some(&long[..128]));
}

#[test]
fn a_batch_larger_than_the_socket_s_buffer() {
    const RULES: usize = 20_000;
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let mut batch = with_chain(Family::Inet);
    for number in 0..RULES {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap());
        batch.add_rule(
            INET,
            "c",
            &INET.rule().saddr_eq(std::net::IpAddr::V4(address)).counter().accept(),
        );
    }
    assert!(batch.bytes().len() > 1 << 20);
    nft.commit(&batch).unwrap();
    let rules = nft.rules(INET, Some("c")).unwrap();
    assert_eq!(rules.len(), RULES);
    assert!(rules.is_sorted_by_key(|rule| rule.handle));

    // Every one of very many changes is refused: more answers than a socket holds.
    let mut wrong = Batch::new();
    for number in 0..RULES {
        wrong.delete_rule(INET, "c", 1_000_000 + number as u64);
    }
    let (operation, errno, _) = refusal(nft.commit(&wrong).unwrap_err());
    assert_eq!((&*operation, errno), ("delete a rule of chain c in table inet t", libc::ENOENT));
    // The socket is as good as before.
    let mut flush = Batch::new();
    flush.flush_chain(INET, "c");
    nft.commit(&flush).unwrap();
    assert_eq!(nft.rules(INET, Some("c")).unwrap(), []);
}

#[test]
fn without_rights_it_is_refused() {
    let ns = TestNetns::new("nft");
    let error = ns.run(|| {
        // This thread alone gives its capabilities up.
        // SAFETY: plain system calls without pointers.
        unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        let mut nft = Nftables::open().unwrap();
        (nft.commit(&with_chain(Family::Inet)).unwrap_err(), nft.generation().unwrap_err())
    });
    for error in [error.0, error.1] {
        assert_eq!(error.errno(), Some(libc::EPERM), "{error}");
        assert!(error.to_string().contains("needs root"), "{error}");
    }
}
