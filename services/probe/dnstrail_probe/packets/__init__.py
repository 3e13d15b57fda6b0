"""From frames of any link type to DNS messages, connections and server names."""
