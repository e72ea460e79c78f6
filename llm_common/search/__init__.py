"""Web search in parts: queries, providers, the two cache tiers, and the services built on them."""
