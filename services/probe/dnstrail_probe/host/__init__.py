"""The processes, sockets, containers and resolvers of this host."""
