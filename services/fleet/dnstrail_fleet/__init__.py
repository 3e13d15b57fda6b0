"""The worker of the fleet: sends the rows of a host to an engine, stores those of all hosts, and answers lookups."""
