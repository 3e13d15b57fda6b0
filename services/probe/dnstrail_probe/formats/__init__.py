"""The formats of capture files, and of frames from resolvers."""
