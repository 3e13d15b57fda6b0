"""Events and findings as tracee writes them in JSON (types/trace/trace.go of its v0.22)."""
