"""The command line: the operator's worker."""
