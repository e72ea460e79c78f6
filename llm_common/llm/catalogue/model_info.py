"""What is known about one model."""

from dataclasses import dataclass
from typing import Literal

from llm_common.llm.pricing import Price

__all__ = ["InfoSource", "ModelInfo"]

InfoSource = Literal["override", "litellm", "genai-prices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One model of one provider. `source` says where its price is from.

    Sizes are in tokens, None where nobody says. `price` is None where nobody knows it: that is not zero. The four
    abilities are None where nobody says either; `reasons` is whether it thinks before it answers.
    """

    provider: str
    name: str
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    price: Price | None = None
    supports_json_schema: bool | None = None
    supports_tools: bool | None = None
    reasons: bool | None = None
    takes_temperature: bool | None = None
    source: InfoSource = "override"
