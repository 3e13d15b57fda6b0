"""The signatures that ship with dnstrail, one a file."""
