"""Which name a connection means, decided when it is made (docs/inside/image.md)."""
