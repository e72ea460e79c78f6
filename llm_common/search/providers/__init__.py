"""Search providers: one file each, with its facts."""
