"""Metrics and health over HTTP: a thread serves what the main loop of a worker hands over."""
