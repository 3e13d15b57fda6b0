"""The store of the fleet on a ClickHouse server, over HTTP."""
