"""What a run is about: the text, where, with which models. Checked before anything is written or sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llm_common._text.plain_text import check_plain_text
from llm_common.db.functions.runs import RunRecord
from llm_common.db.transport import Json
from llm_common.exceptions import InvalidInputError, PipelineError
from llm_common.pipeline.legislation import LEGISLATION
from llm_common.pipeline.schemas import AnalysisResult
from llm_common.pipeline.spec import STEPS, AnalysisSpec

__all__ = ["MAX_BILL_BYTES", "Subject", "check_spec"]

MAX_BILL_BYTES: Final = 10_000_000
_MAX_NAME: Final = 500
_MAX_ROUNDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A text to analyse, and as what. `models` has a model for each of the four steps.

    `max_rounds` bounds the refinements.
    """

    id: str
    text: str = field(repr=False)
    context: str
    models: Mapping[str, str]
    max_rounds: int
    spec: AnalysisSpec[Any] = field(repr=False)

    @classmethod
    def checked(
        cls,
        bill_id: str,
        bill_text: str,
        jurisdiction: str,
        models: Mapping[str, str],
        *,
        max_rounds: int,
        spec: AnalysisSpec[AnalysisResult] = LEGISLATION,
    ) -> "Subject":
        """Raises `InvalidInputError` that names what is wrong.

        "refine" uses the model of "generate" unless it has one of its own.
        """
        _check_name(bill_id, "bill_id")
        _check_name(jurisdiction, "jurisdiction")
        _check_text(bill_text)
        if not 0 <= max_rounds <= _MAX_ROUNDS:
            raise InvalidInputError(f"max_rounds must be from 0 to {_MAX_ROUNDS}, not {max_rounds}")
        return cls(
            id=bill_id,
            text=bill_text,
            context=jurisdiction,
            models=_checked_models(models),
            max_rounds=max_rounds,
            spec=spec,
        )

    @classmethod
    def from_stored(
        cls, run: RunRecord, stored_input: Mapping[str, Any], spec: AnalysisSpec[AnalysisResult]
    ) -> "Subject":
        """Raises `PipelineError` where the run is of another spec."""
        check_spec(run.id, stored_input["spec"], spec)
        return cls.checked(
            run.bill_id,
            stored_input["bill_text"],
            run.jurisdiction,
            run.models,
            max_rounds=stored_input["max_rounds"],
            spec=spec,
        )

    def as_json(self) -> dict[str, Json]:
        """As `db.runs.start` takes it."""
        return {
            "bill_id": self.id,
            "jurisdiction": self.context,
            "models": dict(self.models),
            "input": {"bill_text": self.text, "max_rounds": self.max_rounds, "spec": self.spec.name},
        }


def check_spec(run_id: str, name: str, spec: AnalysisSpec[AnalysisResult]) -> None:
    """Raises `PipelineError` for a run of another spec than this."""
    if name != spec.name:
        raise PipelineError(
            f"run {run_id} is of the spec {name!r}, not of {spec.name!r}; use a pipeline of its own spec",
            run_id=run_id,
        )


def _check_name(name: object, argument: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise InvalidInputError(f"{argument} is empty; give the name under which the run is found again")
    if len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidInputError(f"{argument} must be at most {_MAX_NAME} printable characters on one line")


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInputError(f"bill_text must be text (str), not {type(text).__name__}; decode or extract it first")
    size = _size(text)
    if size > MAX_BILL_BYTES:
        raise InvalidInputError(f"bill_text has {size:,} bytes, more than {MAX_BILL_BYTES:,}; is it one bill, as text?")
    check_plain_text(text, "bill_text")


def _size(text: str) -> int:
    # At least one byte per character, so that a giant is refused without encoding it.
    if len(text) > MAX_BILL_BYTES:
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"bill_text has an unpaired surrogate at {error.start}; decode the file with its true encoding"
        ) from error


def _checked_models(models: Mapping[str, str]) -> dict[str, str]:
    for step in models:
        if step not in STEPS:
            raise InvalidInputError(f"models names the unknown step {step!r}; the steps are {', '.join(STEPS)}")
    complete = {"refine": models.get("generate"), **models}
    for step in STEPS:
        if not complete.get(step):
            raise InvalidInputError(f'models has no model for the step {step!r}; add models["{step}"]')
    return {step: str(complete[step]) for step in STEPS}
