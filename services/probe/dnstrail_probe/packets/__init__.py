"""Reads DNS messages, connections and server names from frames of any link type."""
