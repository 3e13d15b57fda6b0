"""Server names that clients send in the first bytes of a connection."""
