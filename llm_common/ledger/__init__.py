"""The ledger: what a paid request passes before it is sent and after it is over."""
