//! Two servers on one etcd: what is written through one is seen through the other, and one of them at a time runs the controllers.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use tempfile::TempDir;

use crate::day::{find_kubectl, kubectl_command};
use crate::etcd::Etcd;
use crate::process::{PATIENCE, Process, until};
use crate::server::Server;

const DEFINITION: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: looms.heddle.example}
spec:
  group: heddle.example
  names: {kind: Loom, plural: looms}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {threads: {type: integer, maximum: 9}}}}}}
";

const LOOM: &str = r"
apiVersion: heddle.example/v1
kind: Loom
metadata: {name: l}
spec: {threads: 3}
";

/// One of the servers, and somebody with kubectl at it.
struct Member {
    server: Server,
    home: PathBuf,
    kubectl: PathBuf,
}

impl Member {
    /// Starts a server; the keys below `pki` are taken as they are.
    fn start(home: PathBuf, etcd: &Etcd) -> Self {
        let kubectl = find_kubectl();
        let server = Server::start_on(&home, Some(etcd), |kubeconfig| {
            let mut asked = kubectl_command(&kubectl, &home, kubeconfig, "get --raw /readyz");
            asked.output().expect("kubectl runs").status.success()
        });
        Self { server, home, kubectl }
    }

    fn run(&self, line: &str) -> Output {
        let mut command = kubectl_command(&self.kubectl, &self.home, &self.server.kubeconfig, line);
        command.output().expect("kubectl runs")
    }

    #[track_caller]
    fn types(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {line}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn wait_for(&self, line: &str, text: &str) {
        let seen = until(|| String::from_utf8_lossy(&self.run(line).stdout).contains(text));
        assert!(seen, "kubectl {line} never shows {text:?}: {:?}", self.run(line));
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.home.join(name), text).expect("a file");
    }

    /// Who holds the lease of the controllers.
    fn leader(&self) -> String {
        let line = "-n kube-system get lease heddle-controllers -o jsonpath={.spec.holderIdentity}";
        self.types(line)
    }

    /// This server says that it runs the controllers under a name.
    fn leads_as(&self, identity: &str) -> bool {
        let log = std::fs::read_to_string(self.home.join("server.log")).expect("a log");
        let mut taken = log.lines().filter(|line| line.contains("runs the controllers"));
        taken.any(|line| line.contains(identity))
    }

    /// A watch of configmaps that only tells what comes; the names.
    fn watch(&self) -> (Process, mpsc::Receiver<String>) {
        let line = "get configmaps --watch-only -o name --selector pair";
        let mut command = kubectl_command(&self.kubectl, &self.home, &self.server.kubeconfig, line);
        let mut process = Process::start(command.stdout(Stdio::piped()), "kubectl");
        let output = BufReader::new(process.0.stdout.take().expect("a pipe"));
        let (told, names) = mpsc::channel();
        // ends with the process
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| told.send(line).is_ok());
        });
        (process, names)
    }
}

/// Two members with the same authority and token key, as README says of several servers.
fn pair(home: &TempDir) -> (Etcd, Member, Member) {
    let [first, second] = ["first", "second"].map(|name| home.path().join(name));
    std::fs::create_dir_all(&first).expect("a directory");
    std::fs::create_dir_all(second.join("data/pki")).expect("a directory");
    let etcd = Etcd::start(home.path());
    let one = Member::start(first, &etcd);
    let keys = |home: &Path| home.join("data/pki");
    for file in ["ca.key", "ca.crt", "sa.key"] {
        let (from, to) = (keys(&one.home).join(file), keys(&second).join(file));
        std::fs::copy(from, to).expect("a key");
    }
    let other = Member::start(second, &etcd);
    (etcd, one, other)
}

fn services(of: &str, count: usize) -> String {
    let service = |index| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {of}-{index}, labels: {{pair: pair}}}}\n\
             spec: {{type: NodePort, ports: [{{port: 80}}]}}\n"
        )
    };
    (0..count).map(service).collect::<Vec<_>>().join("---\n")
}

/// Each makes services at the same time as the other; nothing is given out twice.
fn addresses_are_unique(one: &Member, other: &Member) {
    const EACH: usize = 25;
    std::thread::scope(|scope| {
        for (member, name) in [(one, "one"), (other, "other")] {
            member.file("services.yaml", &services(name, EACH));
            scope.spawn(move || member.types("create -f services.yaml"));
        }
    });
    let all = |member: &Member| -> Value {
        let text = member.types("get services --selector pair -o json");
        serde_json::from_str(&text).expect("JSON")
    };
    let found = all(one);
    for pointer in ["/spec/clusterIP", "/spec/ports/0/nodePort"] {
        let items = found["items"].as_array().expect("items");
        let given: std::collections::BTreeSet<String> = items
            .iter()
            .map(|item| item.pointer(pointer).expect("it is given").to_string())
            .collect();
        assert_eq!(given.len(), 2 * EACH, "{pointer}");
    }
    assert_eq!(found["items"], all(other)["items"]);
}

fn namespace_comes_and_goes(member: &Member, name: &str) {
    member.types(&format!("create namespace {name}"));
    member.types(&format!("-n {name} create configmap inside"));
    member.wait_for(&format!("-n {name} get configmaps -o name"), "kube-root-ca.crt");
    member.types(&format!("delete namespace {name} --timeout=50s"));
    let gone = member.run(&format!("get namespace {name}"));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("NotFound"), "{gone:?}");
}

#[test]
fn two_servers_are_one() {
    let home = tempfile::tempdir().expect("a directory");
    let (_etcd, one, other) = pair(&home);

    for (writer, reader, name) in [(&one, &other, "there"), (&other, &one, "back")] {
        let (_process, names) = reader.watch();
        // kubectl does not say when its watch has begun
        let heard = until(|| {
            writer.run(&format!("delete configmap {name} --ignore-not-found"));
            writer.types(&format!("create configmap {name}"));
            writer.types(&format!("label configmap {name} pair=pair"));
            names.recv_timeout(std::time::Duration::from_secs(2)).is_ok()
        });
        assert!(heard, "{name} is never told");
        writer.types(&format!("label configmap {name} pair=again --overwrite"));
        let told = names.recv_timeout(PATIENCE).expect("a change");
        assert_eq!(told, format!("configmap/{name}"));
    }
    addresses_are_unique(&one, &other);

    one.file("definition.yaml", DEFINITION);
    one.types("apply -f definition.yaml");
    other.file("loom.yaml", LOOM);
    let mut last = None;
    let made = until(|| last.insert(other.run("create -f loom.yaml")).status.success());
    assert!(made, "the other server never serves looms: {last:?}");
    assert_eq!(one.types("get loom l -o jsonpath={.spec.threads}"), "3");
    let refused = other.run(r#"patch loom l --type=merge -p '{"spec":{"threads":10}}'"#);
    assert!(!refused.status.success(), "the schema holds there as well");

    // a token of one is a token of the other
    let token = one.types("create token default");
    let review = format!(
        r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{}"}}}}"#,
        token.trim()
    );
    other.file("review.json", &review);
    let asked = "create -f review.json -o jsonpath={.status.user.username}";
    let user = other.types(asked);
    assert_eq!(user, "system:serviceaccount:default:default");

    // one leads; when it is killed the other takes over, and goes on with what is to be done
    let holder = one.leader();
    assert_eq!(other.leader(), holder);
    assert!(one.leads_as(&holder) != other.leads_as(&holder), "{holder} is one of them");
    let (leader, follower) = if one.leads_as(&holder) { (one, other) } else { (other, one) };
    namespace_comes_and_goes(&follower, "asked-of-the-follower");
    drop(leader);
    follower.types("create namespace orphan");
    let another = until(|| follower.leader() != holder);
    assert!(another, "nobody takes over");
    assert!(follower.leads_as(&follower.leader()));
    follower.wait_for("-n orphan get serviceaccounts -o name", "serviceaccount/default");
    namespace_comes_and_goes(&follower, "after-the-change");
}
