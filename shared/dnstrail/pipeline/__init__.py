"""The whole pipeline in one run: its workers as child processes, and the view of their events."""

MEMORY = 1024  # MiB for each worker
