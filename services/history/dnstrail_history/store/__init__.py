"""The store: segments of transactions, and what they state about each relation over a year."""
