# shellcheck shell=bash
# The kubectl that the API server is tested with. To be sourced after messages.sh and packages.sh.

# What the server is measured against: Kubernetes 1.32, which Debian has in this release.
kubectl_version=v1.32.
kubectl_suite=trixie

is_wanted_kubectl() { [ -n "$1" ] && "$1" version --client 2>/dev/null | grep -q "^Client Version: $kubectl_version"; }

# The mirror that this machine already takes Debian from, so that a proxy or a mirror of its own is respected.
# shellcheck disable=SC2016  # the variable is apt-get's
debian_mirror() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep '/debian/\?$' | head -n 1; }

# Fetches and unpacks a package of another release, with apt's own checks of signatures and digests, into a folder; the machine's
# sources and its list of packages stay as they are.
unpack_from_suite() { # suite package folder
    local suite=$1 package=$2 folder=$3 apt mirror
    mirror=$(debian_mirror) || fail "found no Debian mirror in this machine's apt sources: install kubectl $kubectl_version* by hand"
    apt=$(mktemp -d)
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,parts}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
    (
        cd "$apt" || exit
        apt_options=(-q -o "Dir::State=$apt/state" -o "Dir::Cache=$apt/cache" -o "Dir::Etc::SourceList=$apt/sources.list"
            -o "Dir::Etc::SourceParts=$apt/parts" -o "APT::Sandbox::User=root" -o "Dir::State::status=/var/lib/dpkg/status")
        apt-get "${apt_options[@]}" update
        apt-get "${apt_options[@]}" download "$package/$suite"
    ) >&2
    mkdir -p "$folder"
    dpkg-deb --extract "$apt/$package"_*.deb "$folder"
    rm -r "$apt"
}

# Prints the path of a kubectl of the version: the machine's own, or one fetched for the tests alone.
require_kubectl() {
    local own fetched=$PWD/target/tools/kubectl
    own=$(command -v kubectl || true)
    if is_wanted_kubectl "$own"; then echo "$own"; return; fi
    if ! is_wanted_kubectl "$fetched/usr/bin/kubectl"; then
        rm -rf "$fetched"
        unpack_from_suite "$kubectl_suite" kubectl "$fetched"
        is_wanted_kubectl "$fetched/usr/bin/kubectl" || fail "the kubectl of $kubectl_suite is not $kubectl_version*"
    fi
    echo "$fetched/usr/bin/kubectl"
}
