"""Calls of the kernel that several workers need: cgroups, sockets, eBPF, capabilities."""
