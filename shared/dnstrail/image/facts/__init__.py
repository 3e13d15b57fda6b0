"""Facts: what the image learned, once each, for those who want to keep it (docs/inside/image.md)."""
