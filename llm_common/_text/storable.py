"""Text as PostgreSQL can hold it. Pure."""

__all__ = ["storable"]


def storable(text: str) -> str:
    """The text without NUL, and with `?` for each half of a surrogate pair: neither can be stored."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
