"""What the provider says when nobody told it what to say: the same for the same request, every time."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from llm_common.testing.schemas import least_instance
from llm_common.testing.wire import Answer, ChatRequest, SearchRequest

__all__ = ["default_answer", "default_search_answer"]

_QUOTED_CHARACTERS: Final = 80
_WORD: Final = re.compile(r"\w+")
#: `publish_date` as the service really writes it: a date, nothing, "22 hours ago" or "1 October 2025" in Chinese.
_DATES: Final = ("2026-10-01", "", "22小时前", "2025年10月1日")


def default_answer(request: ChatRequest) -> Answer:
    """The least that fits the schema, else a sentence that quotes the beginning of the last user message."""
    if request.schema is not None:
        return Answer(json.dumps(least_instance(request.schema), ensure_ascii=False))
    quote = " ".join(request.last_user_text.split())[:_QUOTED_CHARACTERS]
    sentence = f'You wrote: "{quote}".'
    return Answer(json.dumps({"answer": sentence}, ensure_ascii=False) if request.json_mode else sentence)


def default_search_answer(request: SearchRequest) -> list[Mapping[str, Any]]:
    """`count` results made of the words of the query. A wildcard is no domain, so it finds nothing."""
    if request.domain is not None and "*" in request.domain:
        return []
    words = _WORD.findall(request.query) or ["nothing"]
    slug = "-".join(words).lower()[:60]
    return [_result(request, words, slug, number) for number in range(1, request.count + 1)]


def _result(request: SearchRequest, words: list[str], slug: str, number: int) -> Mapping[str, Any]:
    host = request.domain or f"source{number}.example.com"
    topic = " ".join(words)
    return {
        "title": f"{topic.capitalize()}: report {number}",
        "content": f"Report {number} on {topic}. It says what is known about {words[number % len(words)]}.",
        "link": f"https://{host}/{slug}/{number}",
        "media": "" if number % 2 else f"Example Press {number}",
        "icon": "",
        "refer": f"ref_{number}",
        "publish_date": _DATES[number % len(_DATES)],
    }
