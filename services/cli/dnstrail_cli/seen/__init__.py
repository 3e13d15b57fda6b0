"""`dnstrail seen` and `dnstrail new`: when relations were seen in the history, by which programs, and which are new."""
