//! apply, diff, replace, edit, patch, label, annotate, set and scale.

use crate::day::Day;

const WITHOUT_COLOUR: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  level: debug\n";
const OLD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  resourceVersion: \"1\"\ndata: {}\n";

pub fn play(day: &mut Day) {
    applied(day);
    by_the_server(day);
    day.kubectl(
        r#"
        apply -f web.yaml
        replace -f settings.yaml
        get cm settings -o jsonpath='{.data}'
        label cm settings tier=front
        label cm settings tier=back
        label cm settings tier=back --overwrite
        label cm settings tier-
        annotate cm settings note=hello
        annotate cm settings note-
        annotate cm --all by=me
        annotate cm settings --list
        label pods,cm --all seen=yes
        replace --force -f settings.yaml
        apply set-last-applied -f settings.yaml --create-annotation
        apply -f settings.yaml -o name
        patch cm settings -p '{"data":{"level":"warn"}}'
        patch cm settings -p '{"data":{"level":"warn"}}'
        patch cm settings --type=merge -p '{"data":{"colour":null}}'
        patch cm settings --type=json -p '[{"op":"add","path":"/data/size","value":"big"}]'
        patch cm settings --type=json -p '[{"op":"test","path":"/data/size","value":"small"}]'
        patch cm settings --type=json -p '[{"op":"remove","path":"/data/none"}]'
        get cm settings -o jsonpath='{.data}'
        patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox:1.36"}]}}}}'
        get deployment web -o jsonpath='{.spec.template.spec.containers[*].name} {.metadata.generation}'
        patch deployment web --subresource=status --type=merge -p '{"status":{"replicas":2,"readyReplicas":1},"spec":{"replicas":9}}'
        get deployment web -o jsonpath='{.spec.replicas} {.status.readyReplicas} {.metadata.generation}'
        get deployment web --subresource=status
        get deployment web --subresource=scale
        patch deployment web --subresource=scale --type=merge -p '{"spec":{"replicas":4}}'
        set image deployment/web nginx=nginx:1.28
        set image deployment/web nginx=nginx:1.28
        set env deployment/web A=1
        set resources deployment/web -c nginx --limits=cpu=1
        set serviceaccount deployment web bot
        get deployment web -o jsonpath='{.spec.template.spec.containers[*].image} {.spec.template.spec.serviceAccountName}'
        scale deployment web --replicas=5
        scale deployment web --current-replicas=5 --replicas=6
        scale deployment web --current-replicas=2 --replicas=7
        get deployment web -o jsonpath='{.spec.replicas}'
        "#,
    );
    edited(day);
}

fn applied(day: &mut Day) {
    day.kubectl(
        "apply -f settings.yaml
        apply -f settings.yaml
        get cm settings -o yaml --show-managed-fields",
    );
    day.file("less.yaml", WITHOUT_COLOUR);
    day.kubectl(
        r"
        diff -f settings.yaml
        diff -f less.yaml --show-managed-fields=false | sed 's/^\(---\|+++\) .*/\1/; /^diff /d'
        diff -f less.yaml >/dev/null
        apply -f less.yaml --dry-run=client
        apply -f less.yaml --dry-run=server
        get cm settings -o jsonpath='{.data}'
        apply -f less.yaml
        get cm settings -o jsonpath='{.data}'
        apply view-last-applied cm settings
        ",
    );
    day.file("old.yaml", OLD);
    day.kubectl(
        "replace -f old.yaml
        replace -f web.yaml
        apply -f old.yaml",
    );
}

fn by_the_server(day: &mut Day) {
    day.file(
        "ours.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: '1', b: '1'}\n",
    );
    day.file(
        "theirs.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: '2'}\n",
    );
    day.file(
        "fewer.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: '1'}\n",
    );
    day.kubectl(
        "
        apply --server-side -f ours.yaml
        apply --server-side -f ours.yaml --field-manager=other
        apply --server-side -f theirs.yaml --field-manager=third
        apply --server-side -f theirs.yaml --field-manager=third --dry-run=server --force-conflicts
        apply --server-side -f theirs.yaml --field-manager=third --force-conflicts
        get cm shared -o yaml --show-managed-fields
        apply --server-side -f fewer.yaml --force-conflicts
        get cm shared -o jsonpath='{.data}'
        apply --server-side -f settings.yaml
        apply --server-side -f settings.yaml --force-conflicts
        get cm settings -o jsonpath='{.metadata.managedFields[*].manager}' --show-managed-fields
        cluster-info dump --output-directory=dump
        apply --server-side -f web.yaml --dry-run=server
        diff --server-side -f web.yaml >/dev/null
        ",
    );
}

fn edited(day: &mut Day) {
    day.kubectl(
        "
        get cm settings -o jsonpath='{.data.size}'
        edit cm settings
        edit cm settings
        get cm settings -o jsonpath='{.data.size}'
        ",
    );
}
