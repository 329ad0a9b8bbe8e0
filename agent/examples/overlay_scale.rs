//! What ten thousand nodes cost: heap, and the time of a start, of one change and of a comparison that finds nothing.
//!
//! ```text
//! cargo run --release -p heddle-agent --example overlay_scale [NODES]
//! ```
//!
//! In a throw-away namespace; it needs root.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use heddle_agent::overlay::cluster::{Cluster, Event};
use heddle_agent::overlay::kernel::Kernel;
use heddle_agent::overlay::node::{Announcement, Backend, NodeRecord, Vtep, derived_mac};
use heddle_agent::overlay::plan::{Local, Plan, Settings, Underlay};
use netns_tools::testing::TestNetns;
use netns_tools::{MacAddr, Veth};

/// Counts what is allocated.
struct Counting;

static HEAP: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = HEAP.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn record(number: u32) -> NodeRecord {
    let [_, _, high, low] = number.to_be_bytes();
    let address = IpAddr::from([172, 16, high, low]);
    let vteps = vec![Vtep { address, mac: MacAddr([2, 0, 0, 1, high, low]) }];
    let announced = Announcement {
        backend: Backend::Vxlan,
        vteps,
        addresses: vec![address],
        networks: vec!["172.16.0.0/12".parse().expect("a network")],
        ..Announcement::default()
    };
    NodeRecord {
        name: format!("node-{number}.cluster.example").into(),
        created: Some(number.into()),
        pod_cidrs: vec![format!("10.{high}.{low}.0/24").parse().expect("a network")],
        internal_ips: vec![address],
        announced: Some(announced),
        mistakes: Vec::new(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let ns = TestNetns::new("scale");
    ns.netlink().add_veth(&Veth::new("eth0", "far"))?;
    ns.configure("far", &[]);
    ns.configure("eth0", &["172.31.0.1/16"]);
    let link = ns.link("eth0");
    let underlay = Underlay {
        link: link.index,
        name: link.name,
        address: "172.31.0.1/16".parse()?,
        mtu: link.mtu,
        gateway: None,
    };
    let own = NodeRecord {
        name: "own".into(),
        pod_cidrs: vec!["10.200.0.0/24".parse()?],
        ..NodeRecord::default()
    };
    let settings = Settings { backend: Backend::Vxlan, ..Settings::default() };
    let local = Local::new(settings, &own, derived_mac("own"), &[underlay])?;

    let heap = HEAP.load(Ordering::Relaxed);
    let took = |what: &str, start: Instant| {
        println!("{what:<40}{:>10.2} ms", start.elapsed().as_secs_f64() * 1e3);
    };
    let start = Instant::now();
    let mut cluster = Cluster::default();
    cluster.apply(Event::All((0..count).map(record).collect()));
    took("cluster", start);
    let held = |what: &str| {
        let now = HEAP.load(Ordering::Relaxed).saturating_sub(heap);
        println!("{what:<40}{:>10.2} MB", f64::from(u32::try_from(now).unwrap_or(u32::MAX)) / 1e6);
    };
    held("heap: cluster");
    let start = Instant::now();
    let mut plan = Plan::new(local, &cluster, BTreeMap::new());
    took("plan", start);
    held("heap: and the plan");
    let mut kernel = Kernel::open_in(ns.ns())?;
    for what in ["first comparison", "second comparison"] {
        let start = Instant::now();
        let report = kernel.sync(&plan.desired())?;
        took(&format!("{what}: {} put, {} failed", report.put, report.failed.len()), start);
    }
    held("heap: and the kernel's model");
    let most = MOST.load(Ordering::Relaxed).saturating_sub(heap);
    println!("{:<40}{:>10.2} MB", "heap: at most meanwhile", f64::from(u32::try_from(most)?) / 1e6);
    let mut moved = record(count / 2);
    if let Some(announced) = &mut moved.announced {
        announced.vteps[0].mac = MacAddr([2, 9, 9, 9, 9, 9]);
    }
    let start = Instant::now();
    let names = cluster.apply(Event::Put(moved));
    took("one change: cluster", start);
    let start = Instant::now();
    let changes = plan.update(&cluster, &names);
    took("one change: plan", start);
    let start = Instant::now();
    let report = kernel.update(&changes)?;
    took(&format!("one change: kernel, {} put, {} gone", report.put, report.removed), start);
    Ok(())
}
