"""`AnalysisSpec`: what a pipeline analyses, as one value: its claims, its prompts, and how its steps are set."""

import hashlib
import json
import re
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from llm_common.exceptions import InvalidInputError
from llm_common.pipeline.schemas import AnalysisResult, Draft, draft_type

__all__ = ["STEPS", "AnalysisSpec", "Prompts", "StepSettings"]

A_co = TypeVar("A_co", bound=AnalysisResult, covariant=True)

STEPS: Final = ("research", "generate", "review", "refine")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_DOCUMENT: Final = re.compile(r"(?!S\d)[A-Z][A-Z0-9_]{0,30}")
#: Arguments of `LLMClient.complete` that the steps and the settings give themselves.
_ASKED: Final = {"messages", "model", "models", "response_model", "response_format", "stream", "tools", "tool_choice"}
_HOW: Final = {"temperature", "max_tokens", "timeout", "step", "user_id", "run_id", "tags", "ledger"}
_PLACEHOLDERS: Final = {"subject", "context"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The texts about the subject; `{subject}` and `{context}` stand for what `run` is given.

    `role`: who they are, in a sentence. `research`: which web searches to write. `draft`: what to claim, and what each
    field of a claim means, for the drafter and the refiner. `review`: what to look for, above all what must
    not be missing.

    The pipeline itself says how to quote, that sources are data, and what becomes of figures.
    """

    role: str
    research: str
    draft: str
    review: str

    def __post_init__(self) -> None:
        for entry in fields(self):
            text: str = getattr(self, entry.name)
            if not text.strip():
                raise InvalidInputError(f"Prompts.{entry.name} is empty; say what the models have to know")
            _check_placeholders(text, entry.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """How the model of a step is called: as `LLMClient.complete` takes it; None is the client's or provider's default.

    `max_tokens` None is at most 16,384 for research and review and 32,768 for drafts, and less where the model's limit
    or a quarter of its window is. `timeout` is in seconds. `extra` goes to the provider as it is, such as
    `{"reasoning_effort": "high"}`.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidInputError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.timeout is not None and not self.timeout > 0:
            raise InvalidInputError(f"timeout must be more than 0 seconds, got {self.timeout!r}")
        if taken := (_ASKED | _HOW) & set(self.extra):
            raise InvalidInputError(f"extra has {min(taken)!r}, which the pipeline or another setting decides")
        try:
            extra = json.loads(json.dumps(dict(self.extra)))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"extra is not JSON ({error}), so no provider could be sent it") from error
        object.__setattr__(self, "extra", extra)

    def as_arguments(self) -> dict[str, Any]:
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens, "timeout": self.timeout}
        return {"extra": self.extra, **{name: value for name, value in own.items() if value is not None}}


@dataclass(frozen=True, kw_only=True)
class AnalysisSpec(Generic[A_co]):
    """A subject that the pipeline can analyse.

        FEES = AnalysisSpec(name="fund-fees", result=Analysis[Fee], document="PROSPECTUS", prompts=Prompts(...))
        pipeline = AnalysisPipeline(llm, search, tracker, db, spec=FEES)

    `name` is stored with each run. `document` is the source id of the text that is analysed. `steps` has settings for
    "research", "generate", "review" or "refine"; refine has those of generate unless it has its own. A run makes at
    most `max_searches` searches, all at once, with `results_per_search` results each. A text that is too long for its
    models is analysed in parts, at most `parts_at_once` of them at the same time.

    `version` changes with whatever of this could change an answer: a resumed run uses no checkpoint of another one.
    """

    name: str
    result: type[A_co]
    prompts: Prompts
    document: str = "DOCUMENT"
    steps: Mapping[str, StepSettings] = field(default_factory=dict[str, StepSettings])
    max_searches: int = 25
    results_per_search: int = 5
    parts_at_once: int = 8

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidInputError(f"name {self.name!r} must be small letters, digits, - and _, like 'fund-fees'")
        if not _DOCUMENT.fullmatch(self.document):
            raise InvalidInputError(
                f"document {self.document!r} must be capital letters, digits and _, and not like S1, a found source"
            )
        for step in self.steps:
            if step not in STEPS:
                raise InvalidInputError(f"steps names the unknown step {step!r}; the steps are {', '.join(STEPS)}")
        for name in ("max_searches", "results_per_search", "parts_at_once"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be at least 1, not {getattr(self, name)}")
        # A copy: what the host does to its dictionary later changes no spec. A plain one, which can be pickled.
        object.__setattr__(self, "steps", dict(self.steps))
        draft_type(self.result)

    @property
    def draft(self) -> type[Draft]:
        """What the drafting models have to answer."""
        return draft_type(self.result)

    def settings(self, step: str) -> StepSettings:
        """Of one step."""
        default = self.settings("generate") if step == "refine" else StepSettings()
        return self.steps.get(step, default)

    @cached_property
    def draft_schema(self) -> str:
        """The JSON schema of `draft`, in words for the models that need it so."""
        return json.dumps(TypeAdapter(self.draft).json_schema())

    @cached_property
    def version(self) -> str:
        """Digest of all texts, schemas and settings of this spec."""
        schemas: tuple[type[BaseModel], ...] = (self.draft, self.result)
        content = {
            "name": self.name,
            "document": self.document,
            "prompts": asdict(self.prompts),
            "schemas": [TypeAdapter(schema).json_schema() for schema in schemas],
            "steps": {step: asdict(settings) for step, settings in self.steps.items()},
            "searches": [self.max_searches, self.results_per_search],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_placeholders(text: str, name: str) -> None:
    try:
        used = {placeholder for _, placeholder, _, _ in string.Formatter().parse(text) if placeholder is not None}
    except ValueError as error:
        raise InvalidInputError(
            f"Prompts.{name} has a single brace ({error}); write {{{{ and }}}} for braces"
        ) from error
    if unknown := used - _PLACEHOLDERS:
        raise InvalidInputError(
            f"Prompts.{name} uses {{{min(unknown)}}}; it can use {{subject}} and {{context}}, and {{{{ }}}} for braces"
        )
