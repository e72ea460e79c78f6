"""The four steps: research, generate, review, refine. Each asks a model about a part and checks its answer."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import zip_longest

from llm_common._runtime.bounded_gather import bounded_gather
from llm_common._text.chunking import Part, parts_from_ends
from llm_common.exceptions import SearchError
from llm_common.pipeline.context_window import WindowCapacity, fits, split_to_fit
from llm_common.pipeline.grounding import CheckedDraft, check_draft
from llm_common.pipeline.part_context import PartContext
from llm_common.pipeline.prompts import generate_prompt, refine_prompt, research_prompt, review_prompt
from llm_common.pipeline.schemas import Draft, Evidence, Parts, Queries, ResearchFailure, ReviewCritique, Source
from llm_common.pipeline.session import RunSession
from llm_common.pipeline.subject import Subject
from llm_common.web_search import QueryResult, SearchResult, WebSearchClient

__all__ = ["divide", "generate", "refine", "research", "review"]


async def divide(subject: Subject, capacity: WindowCapacity, run: RunSession) -> tuple[Part, ...]:
    """Splits the text into parts. Several of them are stored, because the steps' keys count them."""
    if fits(subject.text, capacity):
        return (Part.whole(subject.text),)

    async def cut() -> Parts:
        return Parts(ends=tuple(part.end for part in await split_to_fit(subject.text, capacity)))

    return parts_from_ends((await run.checkpoint("research.parts", Parts, cut)).ends)


async def research(subject: Subject, parts: Sequence[Part], search: WebSearchClient, run: RunSession) -> Evidence:
    """Searches the web for the subject. A failed search is part of the result and stops nothing."""
    works = [partial(_queries, subject, part, run) for part in parts]
    by_part = await bounded_gather(works, subject.spec.parts_at_once)
    queries = tuple(dict.fromkeys(query for together in zip_longest(*by_part) for query in together if query))
    most = subject.spec.max_searches
    await run.emit("queries", queries=queries[:most])

    async def look() -> Evidence:
        answers = await search.search_many(
            queries[:most],
            subject.spec.results_per_search,
            concurrency=most,
            ledger=run.tracker,
            step="research",
            run_id=run.id,
        )
        return _evidence(queries, answers)

    evidence = await run.checkpoint("research.evidence", Evidence, look)
    await run.emit("sources", sources=evidence.found, failures=evidence.failures)
    return evidence


async def generate(context: PartContext, run: RunSession) -> CheckedDraft:
    """Drafts, and keeps only the claims whose quotes and figures are in their sources."""
    draft = await run.ask(_key("generate", context.part), generate_prompt(context), context.subject.spec.draft)
    return await _checked(draft, context, run)


async def review(context: PartContext, draft: CheckedDraft, run: RunSession, *, number: int) -> ReviewCritique:
    """Reviews exactly this draft; a review that lists errors or gaps did not pass, whatever it says."""
    key = _key(f"review:{number}", context.part)
    critique = _normalised(await run.ask(key, review_prompt(context, draft), ReviewCritique))
    await run.emit("reviewed", review=critique)
    return critique


async def refine(
    context: PartContext, draft: CheckedDraft, critique: ReviewCritique, run: RunSession, *, number: int
) -> CheckedDraft:
    """Drafts again after a review, checked like the first draft."""
    key = _key(f"refine:{number}", context.part)
    better = await run.ask(key, refine_prompt(context, draft, critique), context.subject.spec.draft)
    return await _checked(better, context, run)


async def _queries(subject: Subject, part: Part, run: RunSession) -> list[str]:
    nothing = Evidence(queries=(), found=(), failures=())
    context = PartContext(subject=subject, part=part, evidence=nothing, shown=())
    answer = await run.ask(_key("research", part), research_prompt(context), Queries)
    return [" ".join(query.split()) for query in answer.queries if query.strip()]


def _key(step: str, part: Part) -> str:
    return step if part.of == 1 else f"{step}:part-{part.number:02}"


async def _checked(draft: Draft, context: PartContext, run: RunSession) -> CheckedDraft:
    # Looking for a quote in a long text takes a moment that other runs on this loop should not wait for.
    checked = await asyncio.to_thread(check_draft, draft, context)
    await run.emit("draft_checked", impacts=len(checked.claims), unsupported=checked.unsupported)
    return checked


def _normalised(critique: ReviewCritique) -> ReviewCritique:
    missing = tuple(item for item in critique.missing_impacts if item.strip())
    errors = tuple(item for item in critique.factual_errors if item.strip())
    return ReviewCritique(
        passed=critique.passed and not missing and not errors,
        critique=critique.critique,
        missing_impacts=missing,
        factual_errors=errors,
    )


def _evidence(queries: Sequence[str], answers: Sequence[QueryResult]) -> Evidence:
    failures = [_failure(answer) for answer in answers if not answer.results]
    failures += [
        ResearchFailure(query=query, reason=f"not searched: a run makes at most {len(answers)} searches")
        for query in queries[len(answers) :]
    ]
    hits = (hit for answer in answers for hit in answer.results)
    return Evidence(queries=tuple(queries), found=_numbered(hits), failures=tuple(failures))


def _failure(answer: QueryResult) -> ResearchFailure:
    if answer.error is None:
        return ResearchFailure(query=answer.query, reason="found nothing")
    if not isinstance(answer.error, SearchError):
        # A refused budget or a lost database is no matter of this one search.
        raise answer.error
    return ResearchFailure(query=answer.query, reason=f"{type(answer.error).__name__}: {answer.error}")


def _numbered(hits: Iterable[SearchResult]) -> tuple[Source, ...]:
    """Each page once, in the order of the queries."""
    pages: dict[str, SearchResult] = {}
    for hit in hits:
        if hit.snippet.strip():
            pages.setdefault(hit.url, hit)
    return tuple(
        Source(id=f"S{number}", title=hit.title, url=hit.url, published_date=hit.published_date, text=hit.snippet)
        for number, hit in enumerate(pages.values(), start=1)
    )
