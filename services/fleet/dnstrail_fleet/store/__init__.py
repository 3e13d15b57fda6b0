"""The store of the fleet: the rows of all hosts in SQLite."""
