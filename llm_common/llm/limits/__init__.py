"""Limits of one's own on requests and tokens: their rules, and who keeps the counters."""
