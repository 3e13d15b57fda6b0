"""The probe: captures DNS messages, from the host or from a file, and publishes them."""
