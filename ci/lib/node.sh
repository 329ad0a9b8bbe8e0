# shellcheck shell=bash disable=SC2154
# The demo's node: a network namespace with one link to the host. To be sourced after demo.sh.

ensure_node() {
    [ "$(demo_mode)" = node ] || return 0
    if [ ! -e "/run/netns/$node" ]; then
        say "making the node: network namespace $node, linked to the host by $host_link"
        made "netns $node"
        ip netns add "$node"
    elif ! was_made "netns $node"; then
        fail "/run/netns/$node is there, but ci/up did not make it; remove it with: ip netns del $node"
    fi
    ensure_link
    allow_bridged_translation
}

ensure_link() {
    if ! ip link show dev "$host_link" >/dev/null 2>&1; then
        [ -z "$(ip -4 route show root "$host_address/30")" ] ||
            fail "this host already has a route to $host_address/30, which the demo's link would use"
        made "link $host_link"
        ip link add "$host_link" type veth peer name eth0 netns "$node"
    elif ! was_made "link $host_link"; then
        fail "the link $host_link is there, but ci/up did not make it"
    fi
    ip addr replace "$host_address/30" dev "$host_link"
    ip link set "$host_link" up
    ip -n "$node" link set lo up
    ip -n "$node" addr replace "$node_address/30" dev eth0
    ip -n "$node" link set eth0 up
    ip -n "$node" route replace default via "$host_address"
}

# A service whose backend is on the client's own bridge needs bridged frames to pass iptables.
allow_bridged_translation() {
    local key
    if [ ! -d /proc/sys/net/bridge ] && modprobe br_netfilter 2>/dev/null; then
        made "module br_netfilter"
        # The module starts with "on" everywhere; the host's own bridges stay as they were without it.
        for key in iptables ip6tables arptables; do echo 0 >"/proc/sys/net/bridge/bridge-nf-call-$key"; done
    fi
    if in_node test -e /proc/sys/net/bridge/bridge-nf-call-iptables; then
        in_node sh -c 'echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables'
    fi
}

# --host: the first address that others reach this host by.
first_host_address() {
    ip -j -4 route get 192.0.2.1 2>/dev/null | jq -re '.[0].prefsrc' ||
        ip -j -4 addr show scope global | jq -re '[.[].addr_info[]?.local][0]'
}
