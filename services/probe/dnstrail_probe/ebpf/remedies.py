"""The remedies for everything that eBPF needs: for errors, and for `dnstrail probe --check`."""

from __future__ import annotations

KERNEL = "a newer kernel; --capture packet works on any"
CGROUP2 = "mount -t cgroup2 none /sys/fs/cgroup"
BTF = "a kernel with CONFIG_DEBUG_INFO_BTF"
HOOKS = "Linux 5.10 or newer with CONFIG_CGROUP_BPF"
UPROBES = "Linux 6.14 or newer, or 6.6 to 6.10, with CONFIG_UPROBES"
