"""The live source: eBPF programs on cgroup hooks and tracepoints, loaded by the system's bcc."""
