"""Asyncio tools of all systems: resources per loop, shielding, single flight, outages."""
