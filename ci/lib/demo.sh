# shellcheck shell=bash disable=SC2034
# What ci/up and ci/down agree on: names, folders, and how to tell our own processes. To be sourced.

demo_home=/var/lib/heddle-demo
demo_run=/run/heddle-demo
demo_socket=$demo_run/agent.sock
demo_log=$demo_home/agent.log
demo_image=heddle.dev/demo/busybox:1
# containerd's namespace of the demo's containers.
demo_namespace=heddle-demo

node=heddle-node
host_link=heddle0
host_address=198.18.77.1
node_address=198.18.77.2

# A containerd of our own, when none runs.
containerd_home=/run/heddle/containerd
system_containerd=/run/containerd/containerd.sock

# --host: outside the demo's folders.
host_bin=/usr/local/bin
host_cni_bin=/opt/cni/bin
host_conflist=/etc/cni/net.d/10-heddle.conflist
host_configuration=/etc/heddle

# Files and links made outside the demo's folders, one a line.
made_list=$demo_home/made
# `node` or `host`.
mode_file=$demo_home/mode

demo_mode() { cat "$mode_file" 2>/dev/null || echo node; }

# Runs a command in the node's network; `ip netns exec` would make a mount namespace of its own as well, in which mounts of
# new namespaces stay invisible to everybody else.
in_node() {
    if [ "$(demo_mode)" = host ]; then
        "$@"
    else
        nsenter --net="/run/netns/$node" "$@"
    fi
}

# containerd's socket: the one that up decided on.
containerd_socket() { cat "$demo_home/containerd.address" 2>/dev/null || echo "$system_containerd"; }

demo_ctr() { ctr --address "$(containerd_socket)" --namespace "$demo_namespace" "$@"; }

# Remembers a process as ours. The start time tells it from a later process with the same number. Arguments: name, pid.
record_process() { echo "$2 $(process_start "$2")" >"$demo_home/$1.pid"; }

# Ticks from boot to the start of a process; field 22, counted after the name, which may hold spaces.
process_start() { sed 's/^.*) //' "/proc/$1/stat" | cut -d' ' -f20; }

# Prints the pid recorded under a name, if that very process still runs.
recorded_process() {
    local pid start
    read -r pid start <"$demo_home/$1.pid" || return 1
    [ "$(process_start "$pid" 2>/dev/null)" = "$start" ] || return 1
    echo "$pid"
} 2>/dev/null

is_gone() { ! recorded_process "$1"; }

# Ends a recorded process: SIGTERM, then SIGKILL. Arguments: name, program, seconds.
stop_process() {
    local name=$1 program=$2 seconds=$3 pid executable
    if pid=$(recorded_process "$name"); then
        executable=$(readlink "/proc/$pid/exe" || true)
        # A program that was replaced meanwhile has " (deleted)" behind its name.
        case ${executable##*/} in
            "$program" | "$program (deleted)") ;;
            *) fail "process $pid is recorded as $name, but runs $executable: not touched; remove $demo_home/$name.pid" ;;
        esac
        kill -TERM "$pid" 2>/dev/null || true
        if ! wait_for "$seconds" "$name (process $pid) to end" is_gone "$name"; then
            kill -KILL "$pid" 2>/dev/null || true
            wait_for 5 "$name (process $pid) to be killed" is_gone "$name"
        fi
    fi
    rm -f "$demo_home/$name.pid"
}

# Remembers what is about to be made, for ci/down. Written before the deed: half-way is no excuse for leaving it.
made() { was_made "$1" || echo "$1" >>"$made_list"; }

was_made() { [ -e "$made_list" ] && grep -qxF -- "$1" "$made_list"; }

# One ci/up or ci/down at a time on a machine, from whichever checkout: the names are fixed, and two would take each other's
# demo apart. A folder that is always there serves as the lock, so that no file stays. What goes on in the background must not
# inherit it: hence `9<&-` there.
lock_demo() {
    exec 9</var/lib
    flock --nonblock 9 || fail "another ci/up or ci/down runs on this machine; wait for it to end"
}

# A demo that runs belongs to the checkout that made it; the remains of one that does not, to whoever finds them. Argument:
# what to do about it.
require_own_checkout() {
    local owner
    owner=$(cat "$demo_home/checkout" 2>/dev/null) || return 0
    [ "$owner" != "$PWD" ] && [ -d "$owner" ] || return 0
    if recorded_process agent >/dev/null || recorded_process containerd >/dev/null; then
        fail "the demo was made from $owner: $1"
    fi
}
