"""The group of a worker: its members, the actors that each owns, and what departed members left behind."""
