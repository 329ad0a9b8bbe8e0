use super::*;

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
    )
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

fn names(objects: &Objects) -> Vec<String> {
    objects.pods.iter().filter_map(|pod| pod.object.metadata.name.clone()).collect()
}

fn directory(folder: &tempfile::TempDir) -> Directory {
    Directory::new(folder.path(), "node")
}

#[test]
fn a_file_that_breaks_keeps_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let mut directory = directory(&folder);
    fs::write(&file, format!("{}---\n{}---\n{}", pod("one"), pod("two"), service("s"))).unwrap();
    fs::write(folder.path().join(".hidden.yaml"), pod("hidden")).unwrap();
    fs::write(folder.path().join("b.yaml~"), pod("backup")).unwrap();
    assert_eq!(names(&directory.read().unwrap()), ["one", "two"]);
    fs::write(&file, format!("{}---\n{{{{", pod("three"))).unwrap();
    let objects = directory.read().unwrap();
    assert_eq!((names(&objects).len(), objects.services.len(), objects.errors.len()), (3, 1, 1));
    fs::remove_file(&file).unwrap();
    assert_eq!(directory.read().unwrap(), Objects::default());
}

#[test]
fn a_mistake_of_one_object_does_not_keep_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let mut directory = directory(&folder);
    fs::write(&file, format!("{}---\n{}", pod("one"), pod("two"))).unwrap();
    directory.read().unwrap();
    fs::write(&file, pod("two").replace("image", "imaje")).unwrap();
    let objects = directory.read().unwrap();
    assert_eq!((names(&objects), objects.errors.len()), (vec!["two".to_owned()], 1));
}

#[test]
fn the_last_good_outlives_the_agent() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("a.yaml");
    let memory = state.path().join("manifests.json");
    fs::write(&file, format!("{}---\n{}", pod("one"), service("s"))).unwrap();
    let before = directory(&folder).remembering(memory.clone()).read().unwrap();
    fs::write(&file, "{{{{").unwrap();
    let after = directory(&folder).remembering(memory.clone()).read().unwrap();
    assert_eq!((after.pods, after.services), (before.pods, before.services));
    fs::write(&memory, "{").unwrap();
    assert!(directory(&folder).remembering(memory).read().unwrap().pods.is_empty());
}

#[test]
fn the_first_of_two_counts() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.yaml"), format!("# twice\n---\n{}", pod("web"))).unwrap();
    fs::write(folder.path().join("a.yaml"), pod("web")).unwrap();
    let objects = directory(&folder).read().unwrap();
    assert_eq!(objects.pods.len(), 1);
    assert!(objects.pods[0].path.ends_with("a.yaml"));
    let error = objects.errors[0].to_string();
    assert!(error.contains("b.yaml:3: Pod default/web: ") && error.contains("a.yaml:1"), "{error}");
}

#[test]
fn a_uid_is_of_the_node_and_the_object() {
    let (folder, file) = (tempfile::tempdir().unwrap(), "a.yaml");
    let uid = |text: &str, node: &str| {
        fs::write(folder.path().join(file), text).unwrap();
        let objects = Directory::new(folder.path(), node).read().unwrap();
        objects.pods[0].object.metadata.uid.clone().unwrap()
    };
    let one = uid(&pod("web"), "n1");
    assert_eq!((one.len(), one.as_str()), (36, uid(&pod("web"), "n1").as_str()));
    assert_ne!(one, uid(&pod("web"), "n2"), "two nodes on one host must not share names");
    assert_ne!(one, uid(&pod("web").replace("image: i", "image: j"), "n1"));
    // as in what `kubectl get -o yaml` prints: two files with one uid would be one pod
    let given = pod("web").replace("{name: web}", "{name: web, uid: given}");
    assert_eq!(one, uid(&given, "n1"));
}

#[test]
fn odd_files_are_errors_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("a.yaml", &vec![b'#'; (1 << 20) + 1]);
    write("b.yaml", b"\xff\xfe");
    write("c.yml", pod("web").as_bytes());
    write("d.txt", b"{{{");
    fs::create_dir(folder.path().join("e.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("f.yaml")).unwrap();
    std::os::unix::fs::symlink("c.yml", folder.path().join("g.yaml")).unwrap();
    let objects = directory(&folder).read().unwrap();
    let errors: Vec<_> = objects.errors.iter().map(ToString::to_string).collect();
    assert_eq!(names(&objects), ["web"]);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].contains("a.yaml: file: is larger than 1048576 bytes"), "{errors:?}");
    assert!(errors[1].contains("b.yaml: file: is not UTF-8"), "{errors:?}");
    assert!(errors[2].contains("g.yaml:1: Pod default/web: is also at"), "{errors:?}");
}

#[test]
fn a_missing_folder_is_an_error_and_not_an_empty_one() {
    let error = Directory::new("/nowhere/at/all", "node").read().unwrap_err();
    assert!(error.reason.contains("cannot be read"), "{error:?}");
}
