"""The process of a worker: arguments, log, clock, signals, privileges, and text for its terminal."""
