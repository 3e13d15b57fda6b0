"""Groups of signature workers, and who of them handles which events."""
