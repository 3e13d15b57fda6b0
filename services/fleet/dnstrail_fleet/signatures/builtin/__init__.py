"""The signatures of the fleet that ship with dnstrail, one file each."""
