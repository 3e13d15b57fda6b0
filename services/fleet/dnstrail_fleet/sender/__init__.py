"""The sender of a host: from its history to the log."""
