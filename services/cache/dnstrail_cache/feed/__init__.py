"""Messages of the bus: events into the image, their losses, and conflicts out of it."""
