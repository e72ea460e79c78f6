"""The wires to providers: the only modules that load an HTTP client or a provider's SDK."""
