"""The log: stored transactions in words, as `dnstrail log` selects and prints them."""
