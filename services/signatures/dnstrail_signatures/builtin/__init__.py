"""The signatures that ship with dnstrail; each has a file of its own."""
