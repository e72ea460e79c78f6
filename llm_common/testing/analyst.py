"""An offline analyst: reads what it is sent, and answers with sentences that are really there.

It stands in for the models and the search of the pipeline where there is no key. Nothing in it is about any bill:
another bill gives other queries, another draft and another review. The same request always gets the same answer.

As a drafter it sees the dearest provisions first and misses the rest; as a reviewer it looks for every sentence of the
bill that obliges, forbids or pays, names those that no impact covers, and passes a draft that covers them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from llm_common.testing.default_answers import default_answer
from llm_common.testing.wire import Answer, ChatRequest, SearchRequest, text_of

__all__ = ["answer_chat", "answer_search"]

_SOURCE: Final = re.compile(r'<source id="([^"]*)" title="([^"]*)" url="([^"]*)">\n(.*?)\n</source>', re.DOTALL)
_JURISDICTION: Final = re.compile(r"jurisdiction <context>([^<\n]+)</context>")
_MARKERS: Final = re.compile(r"^(?:SEC(?:TION|\.)\s*\d+\.?|§\s*[\d.]+|\(\w{1,3}\)|\d+\.|[•*-])\s*")
_SENTENCE_END: Final = re.compile(r"(?<=[a-z0-9%)\]][.;])\s+(?=[A-Z(])")
_MONEY: Final = re.compile(r"\$\s?(\d[\d,]*(?:\.\d+)?)(?:\s+(thousand|million|billion))?")
_SCALES: Final = {None: 1, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'-]{3,}")
_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        """shall must may that this with from which other each such upon under than have been into their there within
        for the and any not later more less least most section subdivision paragraph pursuant chapter division title
        code act bill also only when where whose these those before after during provided including hereby does""",
    )
)
#: What a sentence is about, the weightiest first: a label, its weight, and the words that tell.
_KINDS: Final = (
    ("Penalty", 4, re.compile(r"penalt|\bfines?\b|violat|misdemeanor|\bliable\b|ineligible", re.IGNORECASE)),
    ("Limit", 3, re.compile(r"(?:shall|may) not exceed|no more than|not more than|at least", re.IGNORECASE)),
    ("Prohibition", 3, re.compile(r"(?:shall|may|must) not|prohibit|no person", re.IGNORECASE)),
    ("Reporting", 2, re.compile(r"\breport\b|\bsubmit|\bpublish", re.IGNORECASE)),
    ("Spending", 3, re.compile(r"appropriat|reimburs|\$", re.IGNORECASE)),
    ("Obligation", 2, re.compile(r"\bshall\b|\bmust\b|required? to", re.IGNORECASE)),
)
_BINDING: Final = re.compile(r"^(?!.*\bmeans\b).*(?:\b(?:shall|must|may not)\b|\$)")
_DANGLING: Final = frozenset(
    re.findall(r"\w+", "a an the of to for in by on under with and or that which shall may must be is are")
)
#: "On and after July 1, 2028, each district" begins with what can wait.
_LEAD: Final = re.compile(r"^(?:On|If|Of|Within|Before|After|Upon|By|For)\b[^,]*,\s+(?:\d{4},\s+)?")
_DRAFTED_AT_ONCE, _KEY_SENTENCES, _QUERIES, _QUERY_CHARACTERS = 4, 10, 6, 70
_MIN_SENTENCE_WORDS, _MIN_TITLE_WORDS, _MAX_TITLE_WORDS = 5, 4, 10


@dataclass(frozen=True, slots=True)
class _Source:
    id: str
    text: str

    @property
    def sentences(self) -> list[str]:
        paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", self.text))
        pieces = (piece for paragraph in paragraphs for piece in _SENTENCE_END.split(_bare(paragraph)))
        return [s for piece in pieces if len((s := _bare(piece)).split()) >= _MIN_SENTENCE_WORDS]


def answer_chat(request: ChatRequest) -> Answer:
    """Queries, a draft, a review or a refined draft, by the schema asked for; else a sentence of the text itself."""
    asked = set((request.schema or {}).get("properties", {}))
    text = "\n".join(text_of(message) for message in request.messages if message.get("role") == "user")
    if {"queries"} == asked:
        return _json({"queries": _queries(text)})
    if {"impacts", "summary"} <= asked:
        return _json(_draft(text))
    if {"passed", "missing_impacts", "factual_errors"} <= asked:
        return _json(_review(text))
    if asked or request.json_mode:
        return default_answer(request)
    return Answer(_plain(request))


def answer_search(request: SearchRequest) -> list[Mapping[str, Any]]:
    """At most three pages that could exist, made of the query's words. A wildcard is no domain, so it finds nothing."""
    words = [word for word in _WORD.findall(request.query) if word.lower() not in _STOP_WORDS]
    if not words or (request.domain is not None and "*" in request.domain):
        return []
    *some, last = words[:4]
    topic, focus = f"{', '.join(some)} and {last}" if some else last, " ".join(words[:2])
    slug = "-".join(words[:6]).lower()
    pages = [
        (
            f"{focus.capitalize()}: how programs like this work",
            f"Programs that deal with {topic} are usually run by a state agency together with local governments. "
            "Agencies report that such programs depend on staff, on clear rules and on early public notice.",
            "policy-archive.example",
        ),
        (
            f"Questions and answers about {focus}",
            f"Who is affected by rules on {topic} differs from place to place. Residents and small organisations most "
            "often ask how to apply, what records to keep and when the rules take effect.",
            "statehouse-review.example",
        ),
        (
            f"Local experience with {focus}",
            f"Local officials describe rules on {topic} as workable where duties come with funding. "
            "Without funding, they say, new duties compete with services that people already rely on.",
            "county-notes.example",
        ),
    ]
    first = sha256(topic.encode()).digest()[0] % len(pages)
    chosen = [*pages[first:], *pages[:first]][: min(request.count, len(pages))]
    return [
        {
            "title": title,
            "content": content,
            "link": f"https://{request.domain or host}/{slug}",
            "media": host.removesuffix(".example").replace("-", " ").title(),
            "icon": "",
            "refer": f"ref_{number}",
            "publish_date": "",
        }
        for number, (title, content, host) in enumerate(chosen, start=1)
    ]


# ── the four steps ───────────────────────────────────────────────────────────────────────────────────────────────────


def _queries(text: str) -> list[str]:
    place = _JURISDICTION.search(text)
    queries: list[str] = []
    for sentence in _weightiest(_bill(text).sentences, _QUERIES):
        words = dict.fromkeys(word.lower() for word in _WORD.findall(sentence) if word.lower() not in _STOP_WORDS)
        query = f"{place[1] if place else ''} {' '.join(list(words)[:6])}".strip()
        queries.append(query[:_QUERY_CHARACTERS].rsplit(" ", 1)[0] if len(query) > _QUERY_CHARACTERS else query)
    return list(dict.fromkeys(queries))


def _draft(text: str) -> dict[str, Any]:
    """The first draft has the weightiest sentences; a later one keeps its own and adds what the review misses."""
    bill, others = _bill(text), [source for source in _sources(text) if source.id != "BILL"]
    before, critique = _data("draft", text), _data("review", text)
    if before is None or critique is None:
        chosen = _weightiest(bill.sentences, _DRAFTED_AT_ONCE)
    else:
        told = " ".join([*_quotes(before), *critique["missing_impacts"]])
        chosen = [sentence for sentence in bill.sentences if _folded(sentence) in _folded(told)]
    impacts = [_impact(sentence, others) for sentence in chosen]
    return {
        "insufficient_evidence": not impacts,
        "summary": " ".join(_sentence(sentence) for sentence in _weightiest(chosen, 2)),
        "confidence": min(impact["confidence"] for impact in impacts) if impacts else None,
        "impacts": impacts,
    }


def _review(text: str) -> dict[str, Any]:
    bill = _bill(text)
    draft: dict[str, Any] = _data("draft", text) or {"impacts": []}
    sources = {source.id: _folded(source.text) for source in _sources(text)}
    covered = _folded(" ".join(_quotes(draft)))
    errors = [
        f"{impact['title']}: its quote is not in {cited['source']}"
        for impact in draft["impacts"]
        for cited in impact["citations"]
        if _folded(cited["quote"]) not in sources.get(cited["source"], "")
    ]
    missing = [
        f'{_title(sentence)}. The bill says: "{sentence}"'
        for sentence in _weightiest(bill.sentences, _KEY_SENTENCES)
        if _folded(sentence) not in covered
    ]
    if errors or missing:
        critique = "The draft does not cover every provision that obliges, forbids or pays."
    else:
        critique = "Each provision that obliges, forbids or pays is covered, and each quote is in its source."
    return {
        "passed": not errors and not missing,
        "critique": critique,
        "missing_impacts": missing,
        "factual_errors": errors,
    }


def _impact(sentence: str, others: Sequence[_Source]) -> dict[str, Any]:
    money = _MONEY.search(sentence)
    citations = [{"source": "BILL", "quote": sentence}]
    related = _related(sentence, others)
    if related is not None:
        citations.append({"source": related[0].id, "quote": related[1]})
    subject = re.split(r"\b(?:shall|must|may|is|are)\b", sentence, maxsplit=1)[0].strip(" ,")
    short = subject != "There" and 0 < len(subject.split()) <= _MAX_TITLE_WORDS and not re.search(r"\d", subject)
    return {
        "title": _title(sentence),
        "description": _sentence(sentence),
        "affected": subject if short and len(subject) < len(sentence) else None,
        "amount_usd": float(money[1].replace(",", "")) * _SCALES[money[2]] if money else None,
        "confidence": 0.8 if related else 0.6,
        "citations": citations,
    }


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sources(text: str) -> list[_Source]:
    return [_Source(match[1], match[4]) for match in _SOURCE.finditer(text)]


def _bill(text: str) -> _Source:
    return next((source for source in _sources(text) if source.id == "BILL"), _Source("BILL", ""))


def _data(tag: str, text: str) -> Any:
    match = re.search(rf"^<{tag}>\n(.*?)\n</{tag}>$", text, re.DOTALL | re.MULTILINE)
    return json.loads(match[1]) if match else None


def _quotes(draft: Mapping[str, Any]) -> list[str]:
    return [cited["quote"] for impact in draft["impacts"] for cited in impact["citations"]]


def _bare(text: str) -> str:
    """Without the numbering in front: "SEC. 2. (a) (1) The board" → "The board"."""
    while (shorter := _MARKERS.sub("", text, count=1)) != text:
        text = shorter
    return text.strip()


def _weight(sentence: str) -> int:
    return sum(weight for _, weight, tells in _KINDS if tells.search(sentence)) + 3 * bool(_MONEY.search(sentence))


def _weightiest(sentences: Sequence[str], count: int) -> list[str]:
    """In the order of the text; those that say nothing binding are left out."""
    binding = [sentence for sentence in dict.fromkeys(sentences) if _BINDING.search(sentence)]
    chosen = set(sorted(binding, key=_weight, reverse=True)[:count])
    return [sentence for sentence in binding if sentence in chosen]


def _title(sentence: str) -> str:
    kind = next((label for label, _, tells in _KINDS if tells.search(sentence)), "Provision")
    # A figure cut in two would say something else, so a title ends before the first.
    words = re.split(r"[$\d]", _LEAD.sub("", sentence), maxsplit=1)[0].split()[:_MAX_TITLE_WORDS]
    while words and words[-1].lower().strip(",;:") in _DANGLING:
        words.pop()
    if len(words) < _MIN_TITLE_WORDS:
        words = list(dict.fromkeys(word for word in _WORD.findall(sentence) if word.lower() not in _STOP_WORDS))[:5]
    return f"{kind}: {' '.join(words).strip(' ,;:')}"


def _sentence(text: str) -> str:
    return text.rstrip(" ;:,.") + "."


def _related(sentence: str, others: Sequence[_Source]) -> tuple[_Source, str] | None:
    """The sentence of a source that shares most words with this one, if it shares three."""
    words = _content(sentence)
    candidates = [(source, other) for source in others for other in source.sentences]
    best = max(candidates, key=lambda pair: len(words & _content(pair[1])), default=None)
    return best if best and len(words & _content(best[1])) >= 3 else None  # noqa: PLR2004


def _content(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)} - _STOP_WORDS


def _folded(text: str) -> str:
    return re.sub(r"\W+", " ", text).casefold().strip()


def _plain(request: ChatRequest) -> str:
    """The sentence of the user's text that shares most words with its last one, the question."""
    text = _SOURCE.sub(lambda source: source[4], request.last_user_text)
    *told, question = _Source("", text).sentences or [text]
    words = _content(question)
    best = max(told, key=lambda sentence: len(words & _content(sentence)), default=None)
    return _sentence(best) if best else default_answer(request).text or ""


def _json(value: Mapping[str, Any]) -> Answer:
    return Answer(json.dumps(value, ensure_ascii=False))
