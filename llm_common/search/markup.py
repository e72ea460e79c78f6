"""Text out of the HTML in which search services write titles and snippets, and whether text shows anything. Pure."""

import html
import re

__all__ = ["INVISIBLE", "is_blank", "without_markup"]

#: Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt), and the empty Braille pattern.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_INLINE = "a|abbr|b|bdi|bdo|cite|code|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|wbr"
_BLOCK = "article|blockquote|br|dd|div|dl|dt|h[1-6]|hr|img|li|main|nav|ol|p|pre|section|table|tbody|td|th|thead|tr|ul"
#: Only tags that HTML knows: `a < b` and `List<String>` are text.
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_BLOCK_TAG = re.compile(rf"\s*(?:</?(?:{_BLOCK})(?:\s[^<>]*)?/?>|<!--.*?-->)\s*", re.IGNORECASE | re.DOTALL)
#: With its semicolon: in `?a=1&region=2` stands no sign for a trademark.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing of it: no-break and zero-width signs count as blanks."""
    return not INVISIBLE.sub("", text).strip()


def without_markup(text: str) -> str:
    """`<b>Tax</b> &amp; spend<br>more` is `Tax & spend more`, and `&amp;lt;` is `&lt;`: it is done once.

    Text without markup comes back as it is, but trimmed.
    """
    if "<" in text:
        text = _INLINE_TAG.sub("", _BLOCK_TAG.sub(" ", text))
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text).strip()
