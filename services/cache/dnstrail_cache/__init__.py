"""The cache: feeds the image from the bus and answers lookups."""
