# shellcheck shell=bash disable=SC2154
# The containerd that a demo uses: the machine's, or one of our own. To be sourced after demo.sh.

containerd_answers() { timeout 5 ctr --address "$1" version >/dev/null 2>&1; }

# Decides on a containerd and starts one if there is none. A second call finds what the first one decided.
ensure_containerd() {
    if [ -e "$demo_home/containerd.pid" ]; then
        if recorded_process containerd >/dev/null && containerd_answers "$(containerd_socket)"; then return 0; fi
        start_containerd
    elif containerd_answers "$system_containerd"; then
        say "using the containerd that runs, in its namespace $demo_namespace"
        echo "$system_containerd" >"$demo_home/containerd.address"
    else
        start_containerd
    fi
}

write_containerd_configuration() {
    cat >"$containerd_home/config.toml" <<TOML
version = 2
root = "$containerd_home/root"
state = "$containerd_home/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$containerd_home/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "$containerd_home/opt"
TOML
}

start_containerd() {
    local socket=$containerd_home/containerd.sock
    say "starting containerd under $containerd_home"
    # Shims keep their sockets in this folder whatever the configuration says.
    [ -e /run/containerd ] || made "emptied /run/containerd"
    made "tree $containerd_home"
    mkdir -p "$containerd_home"
    write_containerd_configuration
    setsid containerd --config "$containerd_home/config.toml" >>"$demo_home/containerd.log" 2>&1 </dev/null 9<&- &
    record_process containerd $!
    echo "$socket" >"$demo_home/containerd.address"
    wait_for 30 "containerd to answer" containerd_answers "$socket"
}

import_demo_image() {
    if demo_ctr images ls -q | grep -qxF "$demo_image"; then return 0; fi
    say "importing the image $demo_image"
    ci/image "$demo_home/image.tar"
    demo_ctr images import "$demo_home/image.tar" >/dev/null
    rm -f "$demo_home/image.tar"
}

# Removes every container, image and snapshot of our containerd namespace, then the namespace. containerd must answer.
empty_containerd() {
    local id
    for id in $(demo_ctr tasks ls -q); do
        demo_ctr tasks kill -s 9 "$id" >/dev/null 2>&1 || true
        demo_ctr tasks delete --force "$id" >/dev/null 2>&1 || true
    done
    for id in $(demo_ctr containers ls -q); do demo_ctr containers delete "$id" >/dev/null; done
    for id in $(demo_ctr images ls -q); do demo_ctr images rm --sync "$id" >/dev/null; done
    for id in $(demo_ctr leases ls -q); do demo_ctr leases delete --sync "$id" >/dev/null || true; done
    # A snapshot goes only after those on top of it.
    while remove_loose_snapshots; do :; done
    for id in $(demo_ctr content ls -q); do demo_ctr content rm "$id" >/dev/null || true; done
    if ctr --address "$(containerd_socket)" namespaces ls -q | grep -qxF "$demo_namespace"; then
        ctr --address "$(containerd_socket)" namespaces rm "$demo_namespace" >/dev/null
    fi
}

# Succeeds as long as it removed one.
remove_loose_snapshots() {
    local key removed=1
    for key in $(demo_ctr snapshots ls | awk 'NR > 1 { print $1 }'); do
        if demo_ctr snapshots rm "$key" >/dev/null 2>&1; then removed=0; fi
    done
    return $removed
}
