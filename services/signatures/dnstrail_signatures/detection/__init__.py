"""The parts that several built-in signatures share: who asks, bounded state, and gates over time."""
