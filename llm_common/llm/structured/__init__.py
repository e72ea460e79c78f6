"""Structured output: schemas, the ways to ask for one, and partial objects."""
