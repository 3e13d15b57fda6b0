"""Server names that clients state in the first bytes of a connection."""
