# shellcheck shell=bash disable=SC2154
# Programs and configuration at their places: in the demo's folder, or on the host as an installation has them. To be
# sourced after demo.sh.

on_host() { [ "$(demo_mode)" = host ]; }

program_folder() { if on_host; then echo "$host_bin"; else echo "$demo_home/bin"; fi; }
plugin_folder() { if on_host; then echo "$host_cni_bin"; else echo "$demo_home/bin"; fi; }
network_list() { if on_host; then echo "$host_conflist"; else echo "$demo_home/net.d/10-heddle.conflist"; fi; }
configuration_folder() { if on_host; then echo "$host_configuration"; else echo "$demo_home"; fi; }
agent_program() { echo "$(program_folder)/heddle-agent"; }
netns_program() { echo "$(program_folder)/netns"; }
agent_configuration() { echo "$(configuration_folder)/agent.toml"; }
manifests_folder() { echo "$(configuration_folder)/manifests"; }

# Before the first change on a host: is anything in the way that is not ours?
refuse_foreign_host() {
    local file
    [ "$mode" = host ] && [ ! -e "$mode_file" ] || return 0
    for file in "$host_bin"/{heddle-agent,netns} "$host_cni_bin"/{heddle-cni,bridge,host-local,loopback} "$host_conflist" \
        "$host_configuration"; do
        [ ! -e "$file" ] || fail "$file is there already, and ci/up did not make it: nothing was changed"
    done
    if ip link show dev cni0 >/dev/null 2>&1; then fail "the host already has a bridge cni0: nothing was changed"; fi
    if iptables-save -t nat 2>/dev/null | grep -q '^:KUBE-SERVICES '; then
        fail "another service proxy keeps its rules on this host: nothing was changed"
    fi
    # The bridge plugin switches it on; ci/down puts it back.
    made "sysctl net/ipv4/ip_forward $(cat /proc/sys/net/ipv4/ip_forward)"
}

# The folders of pods in the cgroup hierarchies go at the end, if they come from us.
remember_cgroups() {
    local folder
    for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ -e "$folder/cgroup.procs" ] || continue
        [ -e "$folder/kubepods" ] || made "emptied $folder/kubepods"
    done
}

# Makes a folder and, on the way, those above it, each remembered.
ensure_folder() {
    [ ! -d "$1" ] || return 0
    ensure_folder "$(dirname "$1")"
    made "emptied $1"
    mkdir "$1"
}

# Copies a file to its place if it differs there. Arguments: source, destination, mode.
place() {
    if [ -e "$2" ]; then
        if cmp -s "$1" "$2"; then return 0; fi
        # Inside the demo's folder everything is ours.
        case $2 in
            "$demo_home"/*) ;;
            *) was_made "file $2" || fail "$2 is there already, and ci/up did not make it" ;;
        esac
    fi
    ensure_folder "$(dirname "$2")"
    made "file $2"
    install -m "$3" "$1" "$2.new"
    mv "$2.new" "$2"
    touch "$demo_home/restart"
}

restart_needed() { [ -e "$demo_home/restart" ]; }

# Argument: folder of the built programs.
install_programs() {
    local program
    for program in heddle-agent netns; do place "$1/$program" "$(program_folder)/$program" 755; done
    ensure_folder "$(plugin_folder)"
    made "plugins $(plugin_folder)"
    "$1/heddle-cni" install --bin-dir "$(plugin_folder)" >/dev/null
}

install_configuration() {
    local scratch manifest
    scratch=$(mktemp -d "$demo_home/new.XXXXXX")
    jq --arg data "$demo_home/leases" '.plugins[0].ipam.dataDir = $data' conf/10-heddle.conflist >"$scratch/list"
    place "$scratch/list" "$(network_list)" 644
    write_agent_configuration >"$scratch/agent"
    place "$scratch/agent" "$(agent_configuration)" 644
    rm -r "$scratch"
    if [ -e "$(manifests_folder)" ]; then return 0; fi # whoever tries things out has changed them
    ensure_folder "$(manifests_folder)"
    for manifest in conf/demo/*.yaml; do
        made "file $(manifests_folder)/${manifest##*/}"
        install -m 644 "$manifest" "$(manifests_folder)/"
    done
}

write_agent_configuration() {
    cat <<TOML
# Written by ci/up; conf/agent.toml explains the keys.
node_name = "heddle-demo"

[paths]
manifests = "$(manifests_folder)"
state = "$demo_home/state"
logs = "$demo_home/logs"
socket = "$demo_socket"

[cni]
conf_dir = "$(dirname "$(network_list)")"
bin_dirs = ["$(plugin_folder)"]
cache_dir = "$demo_home/cni"

[containerd]
socket = "$(containerd_socket)"
namespace = "$demo_namespace"
TOML
}
