"""`dnstrail top`: which names, processes and resolvers have the most lookups now, and which fail."""
