"""The commands that ask: a running cache over the bus, or a capture file."""
