"""The eBPF source: programs on cgroup hooks and tracepoints, loaded by the system's bcc."""
