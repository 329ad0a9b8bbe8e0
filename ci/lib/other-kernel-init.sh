#!/bin/sh
# PID 1 of the kernel that ci/other-kernel boots: makes a root to throw away, runs a script in it, and halts.
#
# From the kernel's command line, in the environment: OTHER_MODULES (the folder of the kernel's modules), OTHER_RUN (the script).
# The root is this machine's, read-only (hostfs), below a tmpfs: what is written is gone with the kernel.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

# The kernel is a program, which this ends.
end() {
    echo "other-kernel: $*"
    exec busybox halt -f
}

make_root() {
    mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root &&
        busybox insmod "$OTHER_MODULES/kernel/fs/overlayfs/overlay.ko" &&
        mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
}

mount_all() {
    mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev &&
        mkdir /dev/pts && mount -t devpts pts /dev/pts && ln -s /proc/self/fd /dev/fd &&
        mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /run && mkdir /run/netns
}

# The kernel calls /sbin/modprobe for what it is asked for and has not loaded. Two that ask at the same time are not both told when
# it is there (busybox), so what all need is loaded before; and a device file of a module asks for nothing.
find_modules() {
    folder=/lib/modules/$(uname -r)
    mkdir -p "$folder" && mount --bind "$OTHER_MODULES" "$folder" &&
        ln -sf "$(command -v busybox)" /sbin/modprobe && modprobe -a ipv6 veth bridge macvlan ipvlan 8021q dummy vrf tun nf_tables
}

# Loading a module of tunnels makes a device in every namespace, in the middle of some test, unless told not to.
no_surprises() { echo 2 >/proc/sys/net/core/fb_tunnels_only_for_init_net; }

if [ "${1:-}" = in-the-new-root ]; then
    { mount_all && no_surprises && find_modules && ip link set lo up; } || end "cannot furnish its root"
    sh "$OTHER_RUN"
    end "ended with $?"
fi
make_root || end "cannot make its root"
exec chroot /mnt/root /bin/sh "$0" in-the-new-root
