use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Barrier;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{RangeConf, RangeSet, allocate, collect_garbage, leases_of, range_sets, release};

fn sets(subnet: &str) -> Vec<RangeSet> {
    range_sets(&[vec![RangeConf { subnet: subnet.into(), ..RangeConf::default() }]]).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    // Ours beside the reference's have tests of their own.
    let mut names: Vec<_> = names.filter(|name| !OURS.contains(&name.as_str())).collect();
    names.sort();
    names
}

const OURS: [&str; 2] = [".heddle-boot", ".heddle-freed"];

/// The leases that are remembered for a boot, this one or an earlier one, without their containers.
fn remembered(dir: &Path) -> BTreeSet<String> {
    let Ok(boots) = fs::read_dir(dir.join(".heddle-boot")) else { return BTreeSet::new() };
    let names = boots.flat_map(|boot| names(&boot.unwrap().path()));
    names.map(|name| name.split('+').next().unwrap().to_owned()).collect()
}

/// The one second name of a lease.
fn second_name(dir: &Path, address: &str) -> PathBuf {
    let folder = dir.join(".heddle-boot").join(boot_id());
    let start = format!("lease-{address}+");
    let names: Vec<_> =
        names(&folder).into_iter().filter(|name| name.starts_with(&start)).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    folder.join(&names[0])
}

/// The machine is started again: what was of this boot is of an earlier one.
fn reboot(dir: &Path, earlier: char) {
    let boots = dir.join(".heddle-boot");
    let id: String = boot_id().replace(|c: char| c != '-', &earlier.to_string());
    fs::rename(boots.join(boot_id()), boots.join(id)).unwrap();
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_layout_is_the_reference_s() {
    let data = TempDir::new().unwrap();
    let owner = Owner::new("c1", "eth0");
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    allocate(&mut store, &sets("10.1.0.0/24"), &owner, &[]).unwrap();
    store.reserve(ip("fd00::2"), &owner, 1).unwrap();
    let dir = data.path().join("net");
    assert_eq!(
        names(&dir),
        ["10.1.0.2", "fd00::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]
    );
    assert_eq!(fs::read(dir.join("10.1.0.2")).unwrap(), b"c1\r\neth0");
    assert_eq!(fs::read(dir.join("last_reserved_ip.0")).unwrap(), b"10.1.0.2");
    assert_eq!(fs::read(dir.join("last_reserved_ip.1")).unwrap(), b"fd00::2");
    assert_eq!(mode(&dir), 0o755);
    assert_eq!(mode(&dir.join("10.1.0.2")), 0o600);
    assert_eq!(mode(&dir.join("last_reserved_ip.0")), 0o600);
    assert_eq!(
        fs::metadata(dir.join("10.1.0.2")).unwrap().nlink(),
        2,
        "the boot's name is the other"
    );
    assert_eq!(mode(&dir.join(".heddle-boot")), 0o700);
    assert_eq!(remembered(&dir), BTreeSet::from(["lease-10.1.0.2".into(), "lease-fd00::2".into()]));

    release(&mut store, &owner).unwrap();
    assert_eq!(names(&dir), ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]);
    assert_eq!(remembered(&dir), BTreeSet::new());
    drop(store);
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    let next = allocate(&mut store, &sets("10.1.0.0/24"), &owner, &[]).unwrap();
    assert_eq!(next[0].address.to_string(), "10.1.0.3/24", "goes on after the last one");
}

#[test]
fn files_in_the_old_format_and_with_white_space_are_honoured() {
    let data = TempDir::new().unwrap();
    let dir = data.path().join("net");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("10.1.0.2"), "old").unwrap();
    fs::write(dir.join("10.1.0.3"), " new\r\neth0\n").unwrap();
    fs::write(dir.join("10.1.0.4"), "new\r\neth1").unwrap();
    fs::write(dir.join("last_reserved_ip.0"), "10.1.0.4\n").unwrap();
    let mut store = DiskStore::lock(data.path(), "net").unwrap();

    let duplicate = allocate(&mut store, &sets("10.1.0.0/24"), &Owner::new("old", "eth7"), &[]);
    assert!(duplicate.unwrap_err().to_string().contains("10.1.0.2 has been allocated to old"));
    assert_eq!(leases_of(&store, &Owner::new(" new ", "eth0")).unwrap().len(), 1);
    let next = allocate(&mut store, &sets("10.1.0.0/24"), &Owner::new("x", "eth0"), &[]).unwrap();
    assert_eq!(next[0].address.to_string(), "10.1.0.5/24");

    assert_eq!(release(&mut store, &Owner::new("new", "eth0")).unwrap(), [ip("10.1.0.3")]);
    assert_eq!(release(&mut store, &Owner::new("old", "eth7")).unwrap(), [ip("10.1.0.2")]);
    assert_eq!(release(&mut store, &Owner::new("old", "eth7")).unwrap(), [] as [IpAddr; 0]);
    assert_eq!(names(&dir), ["10.1.0.4", "10.1.0.5", "last_reserved_ip.0", "lock"]);
}

#[test]
fn the_full_name_wins_over_the_old_format() {
    let data = TempDir::new().unwrap();
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    let dir = data.path().join("net");
    fs::write(dir.join("10.1.0.2"), "c").unwrap();
    fs::write(dir.join("10.1.0.3"), "c\r\neth0").unwrap();
    let owner = Owner::new("c", "eth0");
    assert_eq!(release(&mut store, &owner).unwrap(), [ip("10.1.0.3")]);
    assert_eq!(release(&mut store, &owner).unwrap(), [ip("10.1.0.2")]);
}

#[test]
fn what_a_killed_program_leaves_is_taken_over() {
    let data = TempDir::new().unwrap();
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    let dir = data.path().join("net");
    // The reference, killed between creating and writing; us, killed between link and unlink.
    fs::write(dir.join("10.1.0.2"), "").unwrap();
    fs::write(dir.join("10.1.0.3"), "live\r\neth0").unwrap();
    fs::hard_link(dir.join("10.1.0.3"), dir.join(NEW_FILE)).unwrap();
    fs::write(dir.join("10.1.0.6"), " \r\n").unwrap();
    assert_eq!(store.leases().unwrap().len(), 1);

    let got = allocate(&mut store, &sets("10.1.0.0/29"), &Owner::new("a", "eth0"), &[]).unwrap();
    assert_eq!(got[0].address.to_string(), "10.1.0.2/29");
    assert_eq!(fs::read(dir.join("10.1.0.2")).unwrap(), b"a\r\neth0");
    assert_eq!(fs::read(dir.join("10.1.0.3")).unwrap(), b"live\r\neth0", "the live lease is whole");

    fs::remove_file(dir.join(NEW_FILE)).unwrap();
    fs::write(dir.join(NEW_FILE), "half").unwrap();
    let valid = [Owner::new("a", "eth0"), Owner::new("live", "eth0")];
    assert_eq!(collect_garbage(&mut store, &valid).unwrap(), [ip("10.1.0.6")]);
    assert_eq!(names(&dir), ["10.1.0.2", "10.1.0.3", "last_reserved_ip.0", "lock"]);
}

#[test]
fn what_is_no_lease_is_left_alone() {
    let data = TempDir::new().unwrap();
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    let dir = data.path().join("net");
    // Other names, another spelling of an address, and a directory in the place of an address.
    for name in ["README", "010.1.0.4", "FD00::5", "10.1.0.4.bak"] {
        fs::write(dir.join(name), "c\r\neth0").unwrap();
    }
    fs::create_dir(dir.join("10.1.0.2")).unwrap();
    fs::write(dir.join("last_reserved_ip.0"), [0xff, 0xfe]).unwrap();
    assert_eq!(store.leases().unwrap(), []);
    assert_eq!(store.last_reserved(0).unwrap(), None);
    let got = allocate(&mut store, &sets("10.1.0.0/29"), &Owner::new("c", "eth0"), &[]).unwrap();
    assert_eq!(got[0].address.to_string(), "10.1.0.3/29", "an occupied name is passed over");
    collect_garbage(&mut store, &[]).unwrap();
    assert_eq!(names(&dir).len(), 7, "{:?}", names(&dir));
}

#[test]
fn anothers_lease_is_known_without_reading_it() {
    let data = TempDir::new().unwrap();
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    let dir = data.path().join("net");
    let (a, b) = (Owner::new("a", "eth0"), Owner::new("b", "eth0"));
    store.reserve(ip("10.1.0.2"), &a, 0).unwrap();
    // Whoever reads it finds nobody's lease.
    fs::write(dir.join("10.1.0.2"), "").unwrap();
    let taken = |owner: &Owner| store.holdings(owner).unwrap().taken;
    assert_eq!(taken(&b), [ip("10.1.0.2")]);
    assert_eq!(taken(&a), [ip("10.1.0.2")]);
    assert_eq!(leases_of(&store, &a).unwrap(), []);
    // Another file under the same name is read, whatever the second name says.
    fs::remove_file(dir.join("10.1.0.2")).unwrap();
    fs::write(dir.join("10.1.0.2"), "b\r\neth0").unwrap();
    assert_eq!(leases_of(&store, &b).unwrap().len(), 1);
    fs::remove_file(dir.join("10.1.0.2")).unwrap();
    fs::write(dir.join("10.1.0.2"), "").unwrap();
    assert!(taken(&b).is_empty());
}

#[test]
fn what_is_killed_between_the_second_name_and_the_first_is_no_lease() {
    let data = TempDir::new().unwrap();
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    let dir = data.path().join("net");
    let owner = Owner::new("a", "eth0");
    store.reserve(ip("10.1.0.2"), &owner, 0).unwrap();
    // Half of the content is there.
    fs::write(second_name(&dir, "10.1.0.2"), "a\r").unwrap();
    fs::remove_file(dir.join("10.1.0.2")).unwrap();
    assert_eq!(store.leases().unwrap(), []);
    assert!(store.holdings(&owner).unwrap().taken.is_empty());
    assert!(store.reserve(ip("10.1.0.2"), &owner, 0).unwrap());
    assert_eq!(fs::read(dir.join("10.1.0.2")).unwrap(), b"a\r\neth0");
    // Another container's second name does not stay behind either.
    fs::remove_file(dir.join("10.1.0.2")).unwrap();
    assert!(store.reserve(ip("10.1.0.2"), &Owner::new("b", "eth0"), 0).unwrap());
    assert!(store.release(ip("10.1.0.2")).unwrap());
    assert_eq!(remembered(&dir), BTreeSet::new());
}

#[test]
fn the_last_address_is_written_over_a_longer_and_a_shorter_one() {
    let data = TempDir::new().unwrap();
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    for address in ["10.1.0.200", "10.1.0.3", "10.1.0.40"] {
        store.reserve(ip(address), &Owner::new("a", "eth0"), 0).unwrap();
        assert_eq!(store.last_reserved(0).unwrap(), Some(ip(address)));
        let file = data.path().join("net/last_reserved_ip.0");
        assert_eq!(fs::read_to_string(file).unwrap(), address);
    }
}

#[test]
fn a_second_name_without_a_container_is_honoured() {
    let data = TempDir::new().unwrap();
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    let dir = data.path().join("net");
    let owner = Owner::new("a", "eth0");
    store.reserve(ip("10.1.0.2"), &owner, 0).unwrap();
    let second = second_name(&dir, "10.1.0.2");
    fs::rename(&second, second.with_file_name("lease-10.1.0.2")).unwrap();
    assert_eq!(leases_of(&store, &owner).unwrap().len(), 1);
    assert_eq!(leases_of(&store, &Owner::new("b", "eth0")).unwrap(), []);
    assert_eq!(release(&mut store, &owner).unwrap(), [ip("10.1.0.2")]);
    assert_eq!(remembered(&dir), BTreeSet::new());
}

#[test]
fn a_network_name_cannot_lead_elsewhere() {
    let data = TempDir::new().unwrap();
    for name in ["", ".", "..", "../x", "a/b", "/etc", "a\0b"] {
        let errors = [
            DiskStore::lock(data.path(), name).unwrap_err(),
            DiskStore::lock_existing(data.path(), name).unwrap_err(),
            DiskStore::peek(data.path(), name).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, StoreError::NetworkName(_)), "{name:?}: {error}");
        }
    }
    assert_eq!(names(data.path()), [""; 0]);
}

#[test]
fn looking_makes_no_directory() {
    let data = TempDir::new().unwrap();
    let nowhere = data.path().join("none");
    assert!(DiskStore::lock_existing(&nowhere, "net").unwrap().is_none());
    assert_eq!(DiskStore::peek(&nowhere, "net").unwrap(), []);
    assert!(!nowhere.exists());
}

#[test]
fn errors_name_operation_and_file() {
    let data = TempDir::new().unwrap();
    let file = data.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DiskStore::lock(&file, "net").unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create directory {}/net", file.display()));
    assert!(std::error::Error::source(&error).is_some());
}

/// 32 threads, each with its own lock, fight for 13 addresses, take, check and release them many times over.
#[test]
fn racing_threads_never_share_an_address() {
    const THREADS: usize = 32;
    let data = TempDir::new().unwrap();
    let sets = sets("10.1.0.0/28");
    let barrier = Barrier::new(THREADS);
    let seen = std::thread::scope(|scope| {
        let run = |thread: usize| {
            let (data, sets, barrier) = (data.path(), &sets, &barrier);
            move || {
                barrier.wait();
                let owner = Owner::new(&format!("c{thread}"), "eth0");
                let mut seen = BTreeSet::new();
                for _ in 0..25 {
                    let got =
                        allocate(&mut DiskStore::lock(data, "net").unwrap(), sets, &owner, &[]);
                    let Ok(got) = got else { continue };
                    let address = got[0].address.ip();
                    std::thread::yield_now();
                    let content = fs::read_to_string(data.join("net").join(address.to_string()));
                    assert_eq!(content.unwrap(), format!("c{thread}\r\neth0"), "somebody else's");
                    seen.insert(address);
                    let freed =
                        release(&mut DiskStore::lock(data, "net").unwrap(), &owner).unwrap();
                    assert_eq!(freed, [address]);
                }
                seen
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(run(n))).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert_eq!(seen.len(), 13, "every address was handed out, the gateway never: {seen:?}");
    assert!(!seen.contains(&ip("10.1.0.1")));
    assert_eq!(names(&data.path().join("net")), ["last_reserved_ip.0", "lock"]);
}

/// As many threads as addresses and then some: exactly the capacity succeeds, all at once.
#[test]
fn racing_threads_fill_the_range_exactly() {
    let data = TempDir::new().unwrap();
    let sets = sets("10.1.0.0/28");
    let barrier = Barrier::new(20);
    let got: Vec<_> = std::thread::scope(|scope| {
        let run = |thread: usize| {
            let (data, sets, barrier) = (data.path(), &sets, &barrier);
            move || {
                barrier.wait();
                let owner = Owner::new(&format!("c{thread}"), "eth0");
                let got = allocate(&mut DiskStore::lock(data, "net").unwrap(), sets, &owner, &[]);
                got.ok().map(|got| got[0].address.ip())
            }
        };
        let threads: Vec<_> = (0..20).map(|n| scope.spawn(run(n))).collect();
        threads.into_iter().filter_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(got.len(), 13);
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 13, "{got:?}");
}

fn get(data: &Path, sets: &[RangeSet], id: &str) -> String {
    let mut store = DiskStore::lock(data, "net").unwrap();
    let got = allocate(&mut store, sets, &Owner::new(id, "eth0"), &[]).unwrap();
    got[0].address.ip().to_string()
}

fn held(data: &Path) -> Vec<(String, String)> {
    let mut leases = DiskStore::peek(data, "net").unwrap();
    leases.sort();
    leases.into_iter().map(|lease| (lease.address.to_string(), lease.container_id)).collect()
}

fn lease(address: &str, id: &str) -> (String, String) {
    (address.into(), id.into())
}

#[test]
fn leases_of_an_earlier_boot_are_reclaimed_by_the_next_add() {
    let data = TempDir::new().unwrap();
    let (sets, dir) = (sets("10.1.0.0/29"), data.path().join("net"));
    for id in ["a", "b", "c", "d", "e"] {
        get(data.path(), &sets, id);
    }
    reboot(&dir, '1');
    assert_eq!(held(data.path()), [], "they count no more, though nobody has removed them yet");
    assert_eq!(names(&dir).len(), 7, "to look changes nothing");
    // The same container as before, and a full range: the reference refuses both.
    assert_eq!(get(data.path(), &sets, "a"), "10.1.0.2");
    assert_eq!(held(data.path()), [lease("10.1.0.2", "a")]);
    assert_eq!(names(&dir), ["10.1.0.2", "last_reserved_ip.0", "lock"]);
    assert_eq!(remembered(&dir), BTreeSet::from(["lease-10.1.0.2".into()]));
    assert_eq!(
        fs::read_dir(dir.join(".heddle-boot")).unwrap().count(),
        1,
        "earlier boots are forgotten"
    );
}

#[test]
fn gc_reclaims_what_is_of_an_earlier_boot_whatever_is_valid() {
    let data = TempDir::new().unwrap();
    let (sets, dir) = (sets("10.1.0.0/29"), data.path().join("net"));
    get(data.path(), &sets, "a");
    reboot(&dir, '1');
    let mut store = DiskStore::lock_existing(data.path(), "net").unwrap().unwrap();
    let freed = collect_garbage(&mut store, &[Owner::new("a", "eth0")]).unwrap();
    assert_eq!(freed, [ip("10.1.0.2")]);
    assert_eq!(names(&dir), ["last_reserved_ip.0", "lock"]);
}

#[test]
fn a_lease_of_the_reference_is_reclaimed_only_a_boot_after_it_was_seen() {
    let data = TempDir::new().unwrap();
    let (sets, dir) = (sets("10.1.0.0/29"), data.path().join("net"));
    get(data.path(), &sets, "ours");
    reboot(&dir, '1');
    // Made by the reference in this boot or in an earlier one: its file cannot tell. However old it says it is.
    fs::write(dir.join("10.1.0.3"), "theirs\r\neth0").unwrap();
    let long_ago = fs::File::open(dir.join("10.1.0.3")).unwrap();
    long_ago.set_modified(std::time::UNIX_EPOCH).unwrap();
    get(data.path(), &sets, "x");
    assert!(held(data.path()).contains(&lease("10.1.0.3", "theirs")));
    let mut store = DiskStore::lock(data.path(), "net").unwrap();
    assert_eq!(
        collect_garbage(&mut store, &[Owner::new("theirs", "eth0"), Owner::new("x", "eth0")])
            .unwrap(),
        [] as [IpAddr; 0]
    );
    drop(store);
    // It was seen in that boot, so in the next one it is dead for certain.
    reboot(&dir, '2');
    get(data.path(), &sets, "y");
    assert_eq!(held(data.path()).len(), 1);
}

/// The same address for the same container, made anew behind our back: another file, so another lease.
#[test]
fn a_living_lease_is_never_taken_for_the_one_of_an_earlier_boot() {
    let data = TempDir::new().unwrap();
    let (sets, dir) = (sets("10.1.0.0/29"), data.path().join("net"));
    get(data.path(), &sets, "a");
    reboot(&dir, '1');
    // By hand, or by a program that does not know the second name.
    fs::remove_file(dir.join("10.1.0.2")).unwrap();
    fs::write(dir.join("10.1.0.2"), "a\r\neth0").unwrap();
    get(data.path(), &sets, "b");
    assert_eq!(held(data.path()), [lease("10.1.0.2", "a"), lease("10.1.0.3", "b")]);
}

#[test]
fn a_reclaim_that_was_cut_short_goes_on() {
    let data = TempDir::new().unwrap();
    let (sets, dir) = (sets("10.1.0.0/29"), data.path().join("net"));
    for id in ["a", "b"] {
        get(data.path(), &sets, id);
    }
    reboot(&dir, '1');
    // Killed after the first lease; and something that is not ours lies there.
    fs::remove_file(dir.join("10.1.0.2")).unwrap();
    let foreign = fs::read_dir(dir.join(".heddle-boot"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("README");
    fs::write(&foreign, "").unwrap();
    get(data.path(), &sets, "c");
    assert_eq!(held(data.path()).len(), 1);
    assert!(foreign.exists());
}

#[test]
fn the_address_that_has_rested_longest_comes_first() {
    let data = TempDir::new().unwrap();
    let sets = sets("10.1.0.0/29");
    let give_back = |id: &str| {
        let mut store = DiskStore::lock(data.path(), "net").unwrap();
        release(&mut store, &Owner::new(id, "eth0")).unwrap();
    };
    for (id, expected) in [("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 6)] {
        assert_eq!(get(data.path(), &sets, id), format!("10.1.0.{expected}"));
    }
    for id in ["d", "b", "e"] {
        give_back(id);
    }
    // By round robin alone it would be .3, which was given back after .5.
    assert_eq!(get(data.path(), &sets, "f"), "10.1.0.5");
    give_back("f");
    for (id, expected) in [("g", 3), ("h", 6), ("i", 5)] {
        assert_eq!(get(data.path(), &sets, id), format!("10.1.0.{expected}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any history of ADD, DEL, GC and reboot gives the same on the disk as in memory, where a reboot releases everything; and
    /// the disk remembers the boot of what is leased, and of nothing else.
    #[test]
    fn any_history_is_that_of_a_store_in_memory(ops in prop::collection::vec((0u8..8, 0u8..9), 0..60)) {
        let data = TempDir::new().unwrap();
        let (sets, dir) = (sets("10.1.0.0/29"), data.path().join("net"));
        let mut memory = crate::MemoryStore::default();
        for (what, id) in ops {
            let owner = Owner::new(&format!("c{id}"), "eth0");
            match what {
                0..=3 => {
                    let mut disk = DiskStore::lock(data.path(), "net").unwrap();
                    let got = allocate(&mut disk, &sets, &owner, &[]).map_err(|e| e.to_string());
                    let expected = allocate(&mut memory, &sets, &owner, &[]).map_err(|e| e.to_string());
                    prop_assert_eq!(got, expected);
                }
                4..=5 => {
                    let Some(mut disk) = DiskStore::lock_existing(data.path(), "net").unwrap() else { continue };
                    prop_assert_eq!(release(&mut disk, &owner).unwrap(), release(&mut memory, &owner).unwrap());
                }
                6 => {
                    let Some(mut disk) = DiskStore::lock_existing(data.path(), "net").unwrap() else { continue };
                    let sorted = |mut freed: Vec<IpAddr>| { freed.sort(); freed };
                    // As a directory lists them, in no order: the order of release among these is nobody's promise.
                    let valid: Vec<_> = (0..9).filter(|n| *n != id).map(|n| Owner::new(&format!("c{n}"), "eth0")).collect();
                    let freed = collect_garbage(&mut disk, &valid).unwrap();
                    prop_assert_eq!(sorted(freed), collect_garbage(&mut memory, &valid).unwrap());
                }
                _ if dir.join(".heddle-boot").join(boot_id()).exists() => {
                    reboot(&dir, '1');
                    drop(DiskStore::lock(data.path(), "net").unwrap());
                    collect_garbage(&mut memory, &[]).unwrap();
                }
                _ => {}
            }
            let mut disk = DiskStore::peek(data.path(), "net").unwrap();
            disk.sort();
            prop_assert_eq!(&disk, &memory.leases().unwrap());
            let second: BTreeSet<_> = disk.iter().map(|lease| format!("lease-{}", lease.address)).collect();
            prop_assert_eq!(remembered(&dir), second);
        }
    }
}
