//! The store of leases on disk, in a folder with whatever files: nothing is handed out twice, what is given back is free, and what is
//! not ours is left alone.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ipam::{
    DiskStore, Owner, RangeConf, Store, allocate, collect_garbage, leases_of, range_sets, release,
};
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Names that mean something to the store, to mix with others.
const NAMES: [&str; 13] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.6",
    "10.0.0.02",
    "fd00::2",
    "fd00:0::2",
    "FD00::3",
    "last_reserved_ip.0",
    "last_reserved_ip.1",
    "lock",
    "note",
    ".heddle-freed",
];

#[derive(Debug)]
struct Scene {
    files: Vec<(String, Vec<u8>)>,
    steps: Vec<(u8, u8)>,
}

impl<'a> Arbitrary<'a> for Scene {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut files = Vec::new();
        for _ in 0..u.int_in_range(0..=8)? {
            let name =
                if u.ratio(7, 8)? { (*u.choose(&NAMES)?).to_owned() } else { u.arbitrary()? };
            let fits = !name.is_empty() && name.len() < 200 && !name.contains(['/', '\0']);
            if fits && name != "." && name != ".." {
                files.push((name, u.arbitrary()?));
            }
        }
        Ok(Self { files, steps: u.arbitrary()? })
    }
}

fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries
        .map(|entry| entry.expect("an entry").path())
        // folders are the store's own: what a scene makes are files
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(path).expect("a file"))
        })
        .collect()
}

/// Whether the store may touch a file: addresses as we write them, and its own notes.
fn is_ours(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok_and(|address| address.to_string() == name)
        || name.starts_with("last_reserved_ip.")
        || name == "lock"
        || name.starts_with('.')
}

fn play(scene: &Scene, data: &Path) {
    let folder = data.join("net");
    fs::create_dir(&folder).expect("a new folder");
    for (name, bytes) in &scene.files {
        fs::write(folder.join(name), bytes).expect("a file name that fits");
    }
    let foreign = |folder: &Path| {
        let mut files = content(folder);
        files.retain(|name, _| !is_ours(name));
        files
    };
    let before = foreign(&folder);
    let conf = |subnet: &str| vec![RangeConf { subnet: subnet.into(), ..RangeConf::default() }];
    let sets = range_sets(&[conf("10.0.0.0/29"), conf("fd00::/125")]).expect("good ranges");
    let mut store = DiskStore::lock(data, "net").expect("the folder is there");
    for (step, id) in scene.steps.iter().take(40) {
        let owner = Owner::new(&format!("c{}", id % 5), "eth0");
        match step % 4 {
            0 => {
                let taken: Vec<_> =
                    store.leases().expect("a list").into_iter().map(|l| l.address).collect();
                if let Ok(leased) = allocate(&mut store, &sets, &owner, &[]) {
                    assert_eq!(leased.len(), sets.len());
                    assert!(leased.iter().all(|lease| !taken.contains(&lease.address.ip())));
                    assert!(leases_of(&store, &owner).expect("a list").len() >= sets.len());
                }
            }
            1 => {
                release(&mut store, &owner).expect("files can be removed");
                let left = leases_of(&store, &owner).expect("a list");
                // A lease in the old format, which names the container only, outlives its first DEL if there were others.
                assert!(left.iter().all(|lease| lease.ifname.is_none()), "{left:?}");
            }
            2 => {
                collect_garbage(&mut store, &[owner.clone()]).expect("files can be removed");
                let left = store.leases().expect("a list");
                assert!(left.iter().all(|lease| lease.belongs_to(&owner)), "{left:?}");
            }
            _ => {
                let peeked = DiskStore::peek(data, "net").expect("a list");
                assert_eq!(peeked.len(), store.leases().expect("a list").len());
            }
        }
    }
    assert_eq!(foreign(&folder), before, "what is not ours is left alone");
}

fuzz_target!(|scene: Scene| {
    // In memory, where there is such a place: it is about the files, not about the disk.
    let shm = Path::new("/dev/shm");
    let root = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    let data = tempfile::Builder::new().prefix("heddle-fuzz-").tempdir_in(root).expect("a folder");
    play(&scene, data.path());
});
