//! The cases, and where they take place.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netns_tools::NetNs;
use netns_tools::testing::TestNetns;

use crate::Outcome;
use crate::call::Call;
use crate::table::{Line, Table, Target, median};

/// Attachments made at the same time, how many of them at once, and how often all of it is done.
const MANY: usize = 200;
const AT_ONCE: usize = 8;
const MANY_ROUNDS: usize = 3;

const BRIDGE: &str = "br0";

/// Whose program is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Heddle,
    Reference,
    Floor,
}

const ALL: [Who; 3] = [Who::Heddle, Who::Reference, Who::Floor];
const SUITES: [Who; 2] = [Who::Heddle, Who::Reference];

/// A plugin to call, and its configuration file.
struct Step<'a> {
    plugin: &'a str,
    conf: PathBuf,
}

/// One candidate's node and pod.
struct Place {
    who: Who,
    node: TestNetns,
    pod: TestNetns,
    dir: PathBuf,
}

/// Everything that is measured.
pub struct Bench {
    heddle: PathBuf,
    reference: PathBuf,
    floor: PathBuf,
    program: PathBuf,
    rounds: usize,
    /// A folder for configurations and leases, removed at the end.
    work: Work,
}

struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    /// Prepares a folder.
    pub fn new([heddle, reference, floor, program]: [PathBuf; 4], rounds: usize) -> Outcome<Self> {
        let work = std::env::temp_dir().join(format!("cni_bench-{}", std::process::id()));
        std::fs::create_dir(&work)?;
        Ok(Self { heddle, reference, floor, program, rounds, work: Work(work) })
    }

    /// Measures everything.
    pub fn run(&self) -> Outcome<Table> {
        let mut lines = Vec::new();
        lines.extend(self.attachments(
            "bridge + host-local",
            &[("bridge", BRIDGE_CONF)],
            true,
            4.0,
        )?);
        let masquerade = BRIDGE_CONF.replace("\"EXTRA\"", "\"ipMasq\": true");
        lines.extend(self.attachments("  with ipMasq", &[("bridge", &masquerade)], false, 3.0)?);
        if self.has("portmap") {
            let chain = [("bridge", BRIDGE_CONF), ("portmap", PORTMAP_CONF)];
            lines.extend(self.attachments("  with portmap", &chain, false, 3.0)?);
        } else {
            eprintln!("heddle-cni has no portmap: left out");
        }
        lines.extend(self.attachments("loopback", &[("loopback", LOOPBACK_CONF)], false, 3.0)?);
        lines.extend(self.attachments(
            "host-local",
            &[("host-local", HOST_LOCAL_CONF)],
            false,
            3.0,
        )?);
        lines.extend(self.many()?);
        lines.extend(self.memory()?);
        lines.push(self.size()?);
        Ok(Table(lines))
    }

    fn has(&self, plugin: &str) -> bool {
        self.heddle.join(plugin).exists() && self.reference.join(plugin).exists()
    }

    fn place(&self, who: Who) -> Outcome<Place> {
        let label = match who {
            Who::Heddle => "bench-h",
            Who::Reference => "bench-r",
            Who::Floor => "bench-f",
        };
        let (node, pod) = (TestNetns::new(label), TestNetns::new(label));
        node.configure("lo", &[]);
        let dir = self.work.0.join(node.name());
        std::fs::create_dir(&dir)?;
        Ok(Place { who, node, pod, dir })
    }

    /// A chain's ADD and DEL, the candidates in turns.
    fn attachments(
        &self,
        name: &str,
        chain: &[(&str, &str)],
        floor: bool,
        faster: f64,
    ) -> Outcome<Vec<Line>> {
        let who: &[Who] = if floor { &ALL } else { &SUITES };
        let places = who.iter().map(|who| self.place(*who)).collect::<Outcome<Vec<_>>>()?;
        let steps = places
            .iter()
            .map(|place| place.write(chain))
            .collect::<Outcome<Vec<Vec<Step<'_>>>>>()?;
        let mut times = vec![(Vec::new(), Vec::new()); places.len()];
        // The first round makes bridges and chains and is not counted.
        for round in 0..=self.rounds {
            for turn in 0..places.len() {
                let at = (turn + round) % places.len();
                let (place, steps) = (&places[at], &steps[at]);
                let (add, del) = (self.add(place, steps)?, self.del(place, steps)?);
                if round > 0 {
                    times[at].0.push(add);
                    times[at].1.push(del);
                }
            }
        }
        let (adds, dels): (Vec<_>, Vec<_>) =
            times.into_iter().map(|(adds, dels)| (median(adds), median(dels))).unzip();
        let figures =
            |medians: &[Option<f64>]| [medians[0], medians[1], medians.get(2).copied().flatten()];
        let line = |what: &str, medians: &[Option<f64>], target| Line {
            name: format!("{name}, {what}"),
            figures: figures(medians),
            unit: "ms",
            target,
        };
        let mut lines = vec![line("ADD", &adds, Target::Faster(faster))];
        if floor {
            lines.push(line("ADD", &adds, Target::Floor(2.0)));
            lines.push(line("DEL", &dels, Target::Floor(1.2)));
        } else {
            lines.push(line("DEL", &dels, Target::None));
        }
        Ok(lines)
    }

    fn add(&self, place: &Place, steps: &[Step<'_>]) -> Outcome<Duration> {
        let pod = place.pod.ns();
        let mut total = Duration::ZERO;
        if place.who == Who::Floor {
            return self.floor_add(pod, 2).run(place.node.ns());
        }
        let result = place.dir.join("result");
        for step in steps {
            let conf = place.with_prev(step, &result)?;
            total += self
                .plugin(place, step.plugin, "ADD", pod, "pod", &conf, &result)
                .run(place.node.ns())?;
        }
        Ok(total)
    }

    fn del(&self, place: &Place, steps: &[Step<'_>]) -> Outcome<Duration> {
        let pod = place.pod.ns();
        if place.who == Who::Floor {
            return self.floor_del(pod).run(place.node.ns());
        }
        let mut total = Duration::ZERO;
        let answer = place.dir.join("answer");
        for step in steps.iter().rev() {
            let conf = place.with_prev(step, &place.dir.join("result"))?;
            total += self
                .plugin(place, step.plugin, "DEL", pod, "pod", &conf, &answer)
                .run(place.node.ns())?;
        }
        Ok(total)
    }

    #[expect(clippy::too_many_arguments, reason = "the variables of the protocol")]
    fn plugin(
        &self,
        place: &Place,
        plugin: &str,
        command: &str,
        pod: &NetNs,
        id: &str,
        conf: &Path,
        answer: &Path,
    ) -> Call {
        let dir = if place.who == Who::Heddle { &self.heddle } else { &self.reference };
        let env = [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", id.to_owned()),
            ("CNI_NETNS", pod.path().display().to_string()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", dir.display().to_string()),
        ];
        Call {
            program: dir.join(plugin),
            args: Vec::new(),
            env: env.map(|(key, value)| (key.to_owned(), value)).into(),
            stdin: Some(conf.to_owned()),
            stdout: Some(answer.to_owned()),
        }
    }

    fn floor_add(&self, pod: &NetNs, number: usize) -> Call {
        let address = format!("10.99.{}.{}/16", number / 250, number % 250 + 2);
        let (pod, end) = (pod.path().display().to_string(), format!("floor{number}"));
        let words = ["add", &pod, BRIDGE, &end, &address, "10.99.0.1"];
        self.floor_call(&words)
    }

    fn floor_del(&self, pod: &NetNs) -> Call {
        self.floor_call(&["del", &pod.path().display().to_string()])
    }

    fn floor_call(&self, words: &[&str]) -> Call {
        Call {
            program: self.floor.clone(),
            args: words.iter().map(ToString::to_string).collect(),
            env: Vec::new(),
            stdin: None,
            stdout: None,
        }
    }

    /// Many ADDs at the same time.
    fn many(&self) -> Outcome<Vec<Line>> {
        let mut times = vec![Vec::new(); ALL.len()];
        for round in 0..MANY_ROUNDS {
            for turn in 0..ALL.len() {
                let at = (turn + round) % ALL.len();
                times[at].push(self.many_of(ALL[at])?);
            }
        }
        let medians: Vec<_> = times.into_iter().map(median).collect();
        let line = |target| Line {
            name: format!("{MANY} ADDs, {AT_ONCE} at a time"),
            figures: [medians[0], medians[1], medians[2]],
            unit: "ms",
            target,
        };
        Ok(vec![line(Target::Faster(4.0)), line(Target::Floor(2.0))])
    }

    fn many_of(&self, who: Who) -> Outcome<Duration> {
        let place = self.place(who)?;
        let steps = place.write(&[("bridge", BRIDGE_CONF)])?;
        let pods: Vec<_> = (0..MANY).map(|_| TestNetns::new("bench-m")).collect();
        let calls: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(number, pod)| match steps.first() {
                Some(step) if who != Who::Floor => {
                    let answer = place.dir.join(format!("answer{number}"));
                    let id = format!("pod{number}");
                    self.plugin(&place, step.plugin, "ADD", pod.ns(), &id, &step.conf, &answer)
                }
                _ => self.floor_add(pod.ns(), number),
            })
            .collect();
        let start = Instant::now();
        at_once(place.node.ns(), &calls)?;
        Ok(start.elapsed())
    }

    /// The most memory of a call.
    fn memory(&self) -> Outcome<Vec<Line>> {
        let mut peaks = [None; 2];
        for (peak, who) in peaks.iter_mut().zip(SUITES) {
            let place = self.place(who)?;
            let steps = place.write(&[("bridge", BRIDGE_CONF)])?;
            let Some(step) = steps.first() else { continue };
            let (pod, answer) = (place.pod.ns(), place.dir.join("answer"));
            let call = self.plugin(&place, step.plugin, "ADD", pod, "pod", &step.conf, &answer);
            #[expect(clippy::cast_precision_loss, reason = "some thousand")]
            let mebibytes = |kib: u64| kib as f64 / 1024.0;
            // A program of several threads need not be seen to end.
            *peak = call.peak_memory(place.node.ns()).ok().map(mebibytes);
        }
        let [ours, theirs] = peaks;
        let target = Target::Below(2.5);
        let name = "peak memory of a bridge ADD".into();
        Ok(vec![Line { name, figures: [ours, theirs, None], unit: "MiB", target }])
    }

    /// What lies on the disk: all plugins of ours, and those of the reference that have the same names.
    fn size(&self) -> Outcome<Line> {
        let mut theirs = 0;
        for entry in std::fs::read_dir(&self.heddle)? {
            let file = self.reference.join(entry?.file_name());
            theirs += std::fs::metadata(file).map_or(0, |meta| meta.len());
        }
        let ours = std::fs::metadata(&self.program)?.len();
        #[expect(clippy::cast_precision_loss, reason = "some million")]
        let megabytes = |bytes: u64| Some(bytes as f64 / 1e6);
        Ok(Line {
            name: "size of all plugins on disk".into(),
            figures: [megabytes(ours), megabytes(theirs), None],
            unit: "MB",
            target: Target::Below(5.0),
        })
    }
}

/// Makes the calls from a few threads that are in a namespace.
fn at_once(node: &NetNs, calls: &[Call]) -> Outcome {
    let next = AtomicUsize::new(0);
    let worker = || -> Outcome {
        node.enter()?;
        while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
            call.run_here()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a thread panicked")?)
    })
}

impl Place {
    /// Writes the configurations of a chain; the floor has none.
    fn write<'a>(&self, chain: &[(&'a str, &str)]) -> Outcome<Vec<Step<'a>>> {
        let leases = self.dir.join("leases").display().to_string();
        chain
            .iter()
            .map(|(plugin, conf)| {
                let conf = conf.replace("LEASES", &leases).replace("\"EXTRA\"", "\"mtu\": 0");
                let path = self.dir.join(format!("{plugin}.json"));
                std::fs::write(&path, conf)?;
                Ok(Step { plugin, conf: path })
            })
            .collect()
    }

    /// The configuration of a step: from the second one of a chain on with the result of those before.
    fn with_prev(&self, step: &Step<'_>, result: &Path) -> Outcome<PathBuf> {
        if step.plugin != "portmap" {
            return Ok(step.conf.clone());
        }
        let conf = std::fs::read_to_string(&step.conf)?;
        let result = std::fs::read_to_string(result)?;
        let path = self.dir.join("chained.json");
        std::fs::write(&path, conf.replace("\"PREV\"", &result))?;
        Ok(path)
    }
}

const BRIDGE_CONF: &str = r#"{"cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "EXTRA",
 "ipam": {"type": "host-local", "dataDir": "LEASES", "ranges": [[{"subnet": "10.99.0.0/16"}]]}}"#;
const PORTMAP_CONF: &str = r#"{"cniVersion": "1.0.0", "name": "bench", "type": "portmap", "prevResult": "PREV",
 "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}"#;
const LOOPBACK_CONF: &str = r#"{"cniVersion": "1.0.0", "name": "bench", "type": "loopback"}"#;
const HOST_LOCAL_CONF: &str = r#"{"cniVersion": "1.0.0", "name": "bench", "type": "host-local",
 "ipam": {"type": "host-local", "dataDir": "LEASES", "ranges": [[{"subnet": "10.99.0.0/16"}]]}}"#;
