# shellcheck shell=bash
# What the machine must have. To be sourced.

require_root() {
    [ "$(id -u)" = 0 ] || fail "run it as root (sudo $0): it makes network namespaces, mounts and links"
}

package_is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Installs what is missing among the packages given. The lists are fetched only when there is something to install.
install_packages() {
    local package missing=()
    for package in "$@"; do
        package_is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        fail "not a Debian machine (no apt-get); install what these Debian packages hold: ${missing[*]}"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 update
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
}

# What building and running need.
install_run_packages() {
    install_packages containerd runc iptables nftables conntrack iproute2 protobuf-compiler libprotobuf-dev gcc libc6-dev \
        busybox-static curl jq util-linux procps
}

# What the tests need besides: the reference plugins to compare with, another runtime that calls plugins, a DHCP server, etcd, a bus, the
# checkers of scripts and units, and the compiler of libFuzzer.
install_test_packages() {
    install_packages containernetworking-plugins dbus-daemon dnsmasq-base etcd-server g++ podman shellcheck systemd
}

# The home of the person behind sudo, whose Rust toolchain is as good as root's.
invoking_home() {
    [ -n "${SUDO_USER:-}" ] || return 1
    getent passwd "$SUDO_USER" | cut -d: -f6
}

# Puts cargo on PATH.
require_cargo() {
    local home
    if command -v cargo >/dev/null; then return 0; fi
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        export PATH="$HOME/.cargo/bin:$PATH"
        return 0
    fi
    if home=$(invoking_home) && [ -x "$home/.cargo/bin/cargo" ]; then
        # rustup keeps its toolchains beside cargo and finds them by these; the caches stay the owner's.
        export PATH="$home/.cargo/bin:$PATH" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
        return 0
    fi
    fail "no cargo on PATH, in $HOME/.cargo/bin${SUDO_USER:+ or in the home of $SUDO_USER};" \
        "install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer with rustup"
}

require_nextest() {
    if command -v cargo-nextest >/dev/null; then return 0; fi
    say "installing cargo-nextest"
    cargo install --locked cargo-nextest
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
}
