"""`dnstrail run`: run a command, and report which names and addresses it reached (docs/use/run.md)."""
