"""The page and its API: a worker that serves facts, findings, lookups and the history over HTTP."""
