#!/usr/bin/env bash
# Prints what a test run could leave behind on this machine, in an order and form in which two runs compare.
set -euo pipefail

# Prints a heading and the output of a command, sorted; a command that fails has nothing to show.
section() {
    echo "# $1"
    shift
    { "$@" 2>/dev/null || true; } | sort
}

# Counters and the time of day change by themselves.
rules() { "$1" | sed -E -e '/^#/d' -e 's/\[[0-9]+:[0-9]+\]//'; }
nft_rules() { nft --stateless list ruleset | sed -E 's/counter packets [0-9]+ bytes [0-9]+/counter/'; }
names() { ls -A "$1"; }
links() { ip -o link | sed -E 's/^[0-9]+: ([^:@]+).*/\1/'; }

# Whoever makes the first named namespace makes /run/netns a shared mount of itself, and it stays so.
mounts() { awk '$5 != "/run/netns" { separator = 0; for (i = 7; i <= NF; i++) if ($i == "-") separator = i; print $5, $(separator + 1) }' /proc/self/mountinfo; }

processes() { ps -e -o comm= -o args= | awk '$1 ~ /^(heddle|containerd|runc|netns)/'; }
pod_cgroups() { find /sys/fs/cgroup -type d -path '*kubepods*'; }

section "network namespaces" names /run/netns
section "links" links
section "iptables, nft" rules iptables-nft-save
section "iptables, legacy" rules iptables-legacy-save
section "ip6tables, nft" rules ip6tables-nft-save
section "ip6tables, legacy" rules ip6tables-legacy-save
section "nftables" nft_rules
section "mounts" mounts
section "processes" processes
section "/opt/cni/bin" names /opt/cni/bin
section "/etc/cni/net.d" names /etc/cni/net.d
section "cgroups of pods" pod_cgroups
