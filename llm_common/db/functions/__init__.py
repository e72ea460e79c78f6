"""Every SQL function that Python calls, typed, once: one module per migration that defines them."""
