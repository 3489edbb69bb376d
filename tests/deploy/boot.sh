#!/bin/sh
# Boots a Debian root with its own systemd, in namespaces of its own: boot.sh BASE UPPER CGROUP RUNTIME
#
# BASE is only read; what is written goes to UPPER. RUNTIME, a directory with containerd's socket, is the system's
# /run/containerd. Everything but the cgroup CGROUP is gone when the process is killed. The node's kernel settings are
# read-only inside.
set -eu
base=$1 upper=$2 cgroup=$3 runtime=$4

if [ "${5:-}" != inside ]; then
  # systemd makes cgroups below the one that it is in, which is thus one of its own.
  for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/$cgroup"
    echo $$ >"$hierarchy/$cgroup/cgroup.procs"
  done
  exec unshare --mount --pid --fork --cgroup --uts --ipc --kill-child sh "$0" "$@" inside
fi

mount --make-rprivate /
root=$upper/root
mkdir -p "$root" "$upper/diff" "$upper/work"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$upper/diff,workdir=$upper/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
  mount -o remount,ro "$root/sys/fs/cgroup"
fi
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir "$root/run/containerd"
mount --bind "$runtime" "$root/run/containerd"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
# The root of its mounts, as on a node: services make mounts of their own from there.
cd "$root"
mount --move . /
exec chroot . /usr/bin/env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=multi-user.target --log-target=journal --show-status=no
