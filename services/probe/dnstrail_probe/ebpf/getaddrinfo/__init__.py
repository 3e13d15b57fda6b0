"""Calls of getaddrinfo, watched by uprobes on C libraries."""
