"""Pure functions on text, for every system."""
