"""What this host says about its processes, sockets, containers and resolvers."""
