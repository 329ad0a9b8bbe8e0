//! The files that are shipped in `conf/` are right: ours by our own parsers, the others by the programs that read them.

use std::fs;
use std::path::Path;
use std::process::Command;

use heddle_tests::{bin_dir, output, project, run};

#[test]
fn the_agents_configuration_and_the_demo_are_valid() {
    let output = run(Command::new(bin_dir().join("heddle-agent"))
        .arg("check-config")
        .arg("--config")
        .arg(project().join("conf/agent.toml"))
        .arg("--paths-manifests")
        .arg(fs::canonicalize(project().join("conf/demo")).expect("the demo's manifests")));
    assert!(output.contains("3 pods, 1 services; all is right"), "{output}");
}

/// Every key of the file is commented out, with its default; taken in, all of them are known and valid.
#[test]
fn the_commented_keys_are_the_real_ones() {
    let text = fs::read_to_string(project().join("conf/agent.toml")).expect("the file");
    let is_key = |line: &str| {
        let word = line.trim_start_matches(['#', ' ']).split([' ', '=']).next().unwrap_or_default();
        line.contains('=')
            && !word.is_empty()
            && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let taken: Vec<_> = text
        .lines()
        .map(|line| {
            if line.starts_with('#') && is_key(line) {
                line.trim_start_matches(['#', ' '])
            } else {
                line
            }
        })
        .collect();
    let folder = std::env::temp_dir().join(format!("heddle-t-conf-{}", std::process::id()));
    fs::create_dir_all(folder.join("manifests")).expect("a folder");
    let file = folder.join("agent.toml");
    fs::write(&file, taken.join("\n")).expect("the file");
    let mut command = Command::new(bin_dir().join("heddle-agent"));
    command
        .arg("check-config")
        .arg("--config")
        .arg(&file)
        .arg("--paths-manifests")
        .arg(folder.join("manifests"));
    let output = output(&mut command);
    fs::remove_dir_all(&folder).expect("the folder goes");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        taken.join("\n")
    );
    assert!(taken.iter().filter(|line| line.contains(" = ")).count() >= 15, "{taken:#?}");
}

#[test]
fn the_units_are_valid() {
    for name in ["heddle-agent", "heddle-overlay"] {
        is_valid(name);
    }
}

fn is_valid(name: &str) {
    let file = format!("{name}.service");
    let unit = fs::read_to_string(project().join("conf/systemd").join(&file)).expect("the unit");
    // the program is not installed here; everything else of the unit is judged
    let folder = std::env::temp_dir().join(format!("heddle-t-unit-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(&file);
    fs::write(&path, unit.replace("/usr/local/bin/heddle-agent", "/bin/true")).expect("the copy");
    let output = output(Command::new("systemd-analyze").arg("verify").arg(&path));
    fs::remove_dir_all(&folder).expect("the folder goes");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn the_network_list_is_what_the_plugins_take() {
    let known = run(Command::new(bin_dir().join("heddle-cni")).arg("list"));
    for file in ["conf/10-heddle.conflist", "conf/20-heddle-overlay.conflist"] {
        let text = fs::read_to_string(project().join(file)).expect("the list");
        let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let plugins = list["plugins"].as_array().expect("plugins");
        assert!(plugins.iter().all(|plugin| plugin["type"].is_string()));
        let types = plugins.iter().flat_map(|plugin| [&plugin["type"], &plugin["ipam"]["type"]]);
        for name in types.filter_map(|name| name.as_str()) {
            let is_known = known.lines().any(|line| line.starts_with(name));
            assert!(is_known, "{file}: {name} is not among: {known}");
        }
    }
    assert!(Path::new(&project()).join("conf/systemd").exists());
}
