"""Text from elsewhere as data in a prompt, between tags that it can neither end nor open."""

import html

__all__ = ["escape_tags", "inline_block", "source_block"]

_SIGNS = str.maketrans(dict.fromkeys("<\uff1c\ufe64", "\u2039"))


def source_block(source_id: str, *, title: str, url: str, text: str) -> str:
    """`<source id="S1" title="..." url="...">`, the text without any tag, `</source>`."""
    head = f'<source id="{source_id}" title="{_attribute(title)}" url="{_attribute(url)}">'
    return f"{head}\n{escape_tags(text)}\n</source>"


def inline_block(tag: str, text: str) -> str:
    """`<tag>text</tag>` on one line, so that a name cannot look like a message or a task of its own."""
    return f"<{tag}>{' '.join(escape_tags(text).split())}</{tag}>"


def escape_tags(text: str) -> str:
    """No `<` survives, nor a sign that looks like one. Other signs stay, so that a quote can be found again."""
    return text.translate(_SIGNS)


def _attribute(text: str) -> str:
    return html.escape(" ".join(escape_tags(text).split()), quote=True)
