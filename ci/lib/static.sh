# shellcheck shell=bash
# How programs are built that start several times per pod. To be sourced, from the top of the project.

# Without a dynamic loader, and at a fixed address, a call takes half the time. For the linker see ci/lib/link-hot-first, which
# reads names in the newer form.
static_flags=(-Ctarget-feature=+crt-static -Crelocation-model=static -Csymbol-mangling-version=v0 "-Clinker=$PWD/ci/lib/link-hot-first")

# Builds with these flags; takes the arguments of `cargo build --release`.
build_static() {
    local IFS=$'\x1f'
    CARGO_ENCODED_RUSTFLAGS="${static_flags[*]}" cargo build --release --target "$(static_target)" "$@"
}

# Where build_static puts the programs. Needs cargo on PATH.
static_folder() { echo "${CARGO_TARGET_DIR:-target}/$(static_target)/release"; }

# This machine's, but named: what runs during the build is then built without the flags.
static_target() { rustc -vV | sed -n 's/^host: //p'; }
