"""The sources of events, one file each."""
