"""The engine: it passes events to signatures, each within its time budget."""
