"""Where the runs of `run_many` are executed: this event loop, a Ray cluster, or an engine of your own."""
