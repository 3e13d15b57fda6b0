"""The events of a run: chosen, ordered, and shown as a table or as JSON."""
