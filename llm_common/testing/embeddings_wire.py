"""OpenAI's embeddings: `POST /v1/embeddings`. Texts with words in common get vectors that point the same way.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

import base64
import hashlib
import math
import re
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, cast

from llm_common.testing.billing import token_count
from llm_common.testing.checks import a_count, a_text, one_of, refuse_unless
from llm_common.testing.wire import Json, ProviderName

__all__ = ["EmbeddingRequest", "embed", "parse_embeddings", "render_embeddings"]

_DEFAULT_DIMENSIONS: Final = 1536
_MAX_INPUTS: Final = 2048
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """The texts to embed. `base64` asks for packed little-endian float32 instead of lists of numbers."""

    provider: ProviderName
    model: str
    texts: tuple[str, ...]
    dimensions: int
    base64: bool

    @property
    def tokens(self) -> int:
        return sum(token_count(text) for text in self.texts)


def parse_embeddings(provider: ProviderName, body: Json) -> EmbeddingRequest:
    """The request that `body` holds; raises `Refusal` where the service would not take it."""
    value: Any = body.get("input")
    refuse_unless(value is not None, "Missing required parameter: 'input'.", parameter="input")
    texts: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    refuse_unless(
        0 < len(texts) <= _MAX_INPUTS and all(isinstance(text, str) and text for text in texts),
        f"Invalid 'input': expected a text, or 1 to {_MAX_INPUTS} texts, none of them empty.",
        parameter="input",
    )
    encoding = body.get("encoding_format", "float")
    one_of(encoding, {"float", "base64"}, "encoding_format")
    dimensions = a_count(body, "dimensions", low=1, high=3072)
    return EmbeddingRequest(
        provider=provider,
        model=a_text(body, "model"),
        texts=tuple(texts),
        dimensions=dimensions or _DEFAULT_DIMENSIONS,
        base64=encoding == "base64",
    )


def embed(text: str, dimensions: int) -> list[float]:
    """The words of `text` hashed into `dimensions` buckets, scaled to length one."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        bucket = int.from_bytes(digest[:7], "little") % dimensions
        vector[bucket] += 1.0 if digest[7] % 2 else -1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]


def render_embeddings(request: EmbeddingRequest, cost_usd: Decimal) -> Json:
    """The answer; OpenRouter says in it what it cost."""
    data: list[Json] = []
    for index, text in enumerate(request.texts):
        vector = embed(text, request.dimensions)
        packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed if request.base64 else vector})
    usage: Json = {"prompt_tokens": request.tokens, "total_tokens": request.tokens}
    if request.provider == "openrouter":
        usage = {**usage, "cost": float(cost_usd)}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}
