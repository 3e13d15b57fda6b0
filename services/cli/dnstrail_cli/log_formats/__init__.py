"""The formats of `dnstrail log`: each encodes an entry as one line."""
