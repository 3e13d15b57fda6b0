"""`dnstrail enrich`: the names of connections in the events of other tools."""
