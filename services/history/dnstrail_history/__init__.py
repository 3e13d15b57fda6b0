"""The worker that keeps facts on disk."""
