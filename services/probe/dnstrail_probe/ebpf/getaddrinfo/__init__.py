"""Calls of getaddrinfo, watched by uprobes on the C libraries of this host."""
