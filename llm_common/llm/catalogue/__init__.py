"""What is known about each model: price, sizes, abilities, and from which source."""
