"""Golden invoices: `usage` objects as providers send them, and the amount worked out by hand from the published price.

Prices are in US dollars per million tokens (https://developers.openai.com/api/docs/pricing,
https://platform.claude.com/docs/en/about-claude/pricing, https://docs.z.ai/guides/overview/pricing,
https://openrouter.ai/models, https://api-docs.deepseek.com/quick_start/pricing, https://docs.x.ai/docs/models,
https://ai.google.dev/gemini-api/docs/pricing). $1 per million tokens is 1,000 nano-dollars per token.
"""

import json

import pytest

from llm_common.llm.candidates import Candidate
from llm_common.llm.catalogue.catalogue import Catalogue
from llm_common.llm.pricing import Price, Rates
from llm_common.llm.providers.direct import DirectWire
from llm_common.llm.token_usage import cost_in, usage_in
from llm_common.llm.wire import Route
from llm_common.models import Usage

CATALOGUE = Catalogue()
#: For a model without a listed price; no invoice may come to it.
CEILING = Price(Rates.per_million(input="30", output="180"))

# id: (provider, model, usage as sent, nano-dollars)
INVOICES = {
    # gpt-4o: 2.50 in, 10.00 out. 19 x 2,500 + 10 x 10,000 = 47,500 + 100,000
    "openai, fresh": (
        *("openai", "gpt-4o"),
        """{"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}""",
        147_500,
    ),
    # gpt-4o-mini: 0.15 in, 0.60 out. 57 x 150 + 17 x 600 = 8,550 + 10,200
    "openai, null for the details": (
        *("openai", "gpt-4o-mini"),
        """{"prompt_tokens": 57, "completion_tokens": 17, "total_tokens": 74,
            "prompt_tokens_details": null, "completion_tokens_details": null}""",
        18_750,
    ),
    # gpt-4.1: 2.00 in, 0.50 cached, 8.00 out. Cached tokens are among the prompt's: 2,006 - 1,920 = 86 are fresh.
    # 86 x 2,000 + 1,920 x 500 + 300 x 8,000 = 172,000 + 960,000 + 2,400,000
    "openai, cached": (
        *("openai", "gpt-4.1"),
        """{"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0}}""",
        3_532_000,
    ),
    # gpt-4.1-nano: 0.10 in, 0.025 cached, 0.40 out.
    # 158 x 100 + 1,408 x 25 + 23 x 400 = 15,800 + 35,200 + 9,200
    "openai, cached, cheapest": (
        *("openai", "gpt-4.1-nano"),
        """{"prompt_tokens": 1566, "completion_tokens": 23, "total_tokens": 1589,
            "prompt_tokens_details": {"cached_tokens": 1408}}""",
        60_200,
    ),
    # o3: 2.00 in, 8.00 out; reasoning is among the completion's. 75 x 2,000 + 1,186 x 8,000 = 150,000 + 9,488,000
    "openai, reasoning": (
        *("openai", "o3"),
        """{"prompt_tokens": 75, "completion_tokens": 1186, "total_tokens": 1261,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 1024, "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0}}""",
        9_638_000,
    ),
    # o4-mini: 1.10 in, 0.275 cached, 4.40 out.
    # 1,024 x 1,100 + 4,096 x 275 + 2,048 x 4,400 = 1,126,400 + 1,126,400 + 9,011,200
    "openai, cached and reasoning": (
        *("openai", "o4-mini"),
        """{"prompt_tokens": 5120, "completion_tokens": 2048, "total_tokens": 7168,
            "prompt_tokens_details": {"cached_tokens": 4096, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 1984, "audio_tokens": 0}}""",
        11_264_000,
    ),
    # gpt-5: 1.25 in, 10.00 out. 32 x 1,250 + 523 x 10,000 = 40,000 + 5,230,000
    "openai, nearly all reasoning": (
        *("openai", "gpt-5"),
        """{"prompt_tokens": 32, "completion_tokens": 523, "total_tokens": 555,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 512, "audio_tokens": 0}}""",
        5_270_000,
    ),
    # gpt-5-mini: 0.25 in, 0.025 cached, 2.00 out.
    # 19 x 250 + 9,984 x 25 + 1 x 2,000 = 4,750 + 249,600 + 2,000
    "openai, nearly all cached": (
        *("openai", "gpt-5-mini"),
        """{"prompt_tokens": 10003, "completion_tokens": 1, "total_tokens": 10004,
            "prompt_tokens_details": {"cached_tokens": 9984}, "completion_tokens_details": {"reasoning_tokens": 0}}""",
        256_350,
    ),
    # gpt-6-luna beyond 272,000: 0.20 in, 0.02 cached, 0.75 out for the whole request.
    # 19,936 x 200 + 280,064 x 20 + 1,500 x 750 = 3,987,200 + 5,601,280 + 1,125,000
    "openai, long context": (
        *("openai", "gpt-6-luna"),
        """{"prompt_tokens": 300000, "completion_tokens": 1500, "total_tokens": 301500,
            "prompt_tokens_details": {"cached_tokens": 280064},
            "completion_tokens_details": {"reasoning_tokens": 900}}""",
        10_713_480,
    ),
    # text-embedding-3-small: 0.02 in. 8 x 20
    "openai, embedding": (
        *("openai", "text-embedding-3-small"),
        """{"prompt_tokens": 8, "total_tokens": 8}""",
        160,
    ),
    # claude-sonnet-4-5: 3.00 in, 15.00 out. 25 x 3,000 + 150 x 15,000 = 75,000 + 2,250,000
    "anthropic over LiteLLM, fresh": (
        *("anthropic", "claude-sonnet-4-5"),
        """{"completion_tokens": 150, "prompt_tokens": 25, "total_tokens": 175,
            "completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 150},
            "prompt_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0, "text_tokens": 25,
                "cache_creation_tokens": 0},
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard"}""",
        2_325_000,
    ),
    # claude-sonnet-4-5: 0.30 cache read. LiteLLM's prompt is fresh, read and written tokens together: 21 are fresh.
    # 21 x 3,000 + 18,000 x 300 + 400 x 15,000 = 63,000 + 5,400,000 + 6,000,000
    "anthropic over LiteLLM, cache read": (
        *("anthropic", "claude-sonnet-4-5"),
        """{"completion_tokens": 400, "prompt_tokens": 18021, "total_tokens": 18421,
            "completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 400},
            "prompt_tokens_details": {"audio_tokens": null, "cache_write_tokens": 0, "cached_tokens": 18000,
                "text_tokens": 21, "cache_creation_tokens": 0},
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 18000}""",
        11_463_000,
    ),
    # claude-sonnet-4-5: 3.75 written for 5 minutes.
    # 21 x 3,000 + 18,000 x 3,750 + 400 x 15,000 = 63,000 + 67,500,000 + 6,000,000
    "anthropic over LiteLLM, cache write for 5 minutes": (
        *("anthropic", "claude-sonnet-4-5"),
        """{"completion_tokens": 400, "prompt_tokens": 18021, "total_tokens": 18421,
            "prompt_tokens_details": {"cache_write_tokens": 18000, "cached_tokens": 0, "text_tokens": 21,
                "cache_creation_tokens": 18000, "cache_creation_token_details":
                    {"ephemeral_5m_input_tokens": 18000, "ephemeral_1h_input_tokens": 0}},
            "cache_creation_input_tokens": 18000, "cache_read_input_tokens": 0}""",
        73_563_000,
    ),
    # claude-sonnet-4-5: 6.00 written for an hour.
    # 21 x 3,000 + 3,000 x 3,750 + 15,000 x 6,000 + 400 x 15,000 = 63,000 + 11,250,000 + 90,000,000 + 6,000,000
    "anthropic over LiteLLM, cache write for both lifetimes": (
        *("anthropic", "claude-sonnet-4-5"),
        """{"completion_tokens": 400, "prompt_tokens": 18021, "total_tokens": 18421,
            "completion_tokens_details": {"reasoning_tokens": 10, "text_tokens": 390, "image_tokens": null},
            "prompt_tokens_details": {"audio_tokens": null, "cache_write_tokens": 18000, "cached_tokens": 0,
                "text_tokens": 21, "image_tokens": null, "video_tokens": null, "cache_creation_tokens": 18000,
                "cache_creation_token_details":
                    {"ephemeral_5m_input_tokens": 3000, "ephemeral_1h_input_tokens": 15000}},
            "cache_creation_input_tokens": 18000, "cache_read_input_tokens": 0, "iterations": null,
            "inference_geo": null, "speed": null, "service_tier": "standard"}""",
        107_313_000,
    ),
    # claude-haiku-4-5: 1.00 in, 0.10 read, 2.00 written for an hour, 5.00 out.
    # 4 x 1,000 + 2,048 x 100 + 248 x 2,000 + 503 x 5,000 = 4,000 + 204,800 + 496,000 + 2,515,000
    "anthropic over LiteLLM, read and write for an hour": (
        *("anthropic", "claude-haiku-4-5"),
        """{"completion_tokens": 503, "prompt_tokens": 2300, "total_tokens": 2803,
            "prompt_tokens_details": {"cache_write_tokens": 248, "cached_tokens": 2048, "text_tokens": 4,
                "cache_creation_tokens": 248, "cache_creation_token_details":
                    {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 248}},
            "cache_creation_input_tokens": 248, "cache_read_input_tokens": 2048}""",
        3_219_800,
    ),
    # claude-opus-4-5: 5.00 in, 25.00 out; thinking is among the completion's.
    # 44 x 5,000 + 980 x 25,000 = 220,000 + 24,500,000
    "anthropic over LiteLLM, thinking": (
        *("anthropic", "claude-opus-4-5"),
        """{"completion_tokens": 980, "prompt_tokens": 44, "total_tokens": 1024,
            "completion_tokens_details": {"reasoning_tokens": 700, "text_tokens": 280},
            "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 44, "cache_creation_tokens": 0},
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}""",
        24_720_000,
    ),
    # claude-haiku-5-5 beyond 100,000: 0.50 in, 0.625 written for 5 minutes, 1.00 for an hour, 2.50 out.
    # 12 x 500 + 1 x 625 + 100,000 x 1,000 + 64 x 2,500 = 6,000 + 625 + 100,000,000 + 160,000
    "anthropic over LiteLLM, long context": (
        *("anthropic", "claude-haiku-5-5"),
        """{"completion_tokens": 64, "prompt_tokens": 100013, "total_tokens": 100077,
            "prompt_tokens_details": {"cache_write_tokens": 100001, "cached_tokens": 0, "text_tokens": 12,
                "cache_creation_tokens": 100001, "cache_creation_token_details":
                    {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 100000}},
            "cache_creation_input_tokens": 100001, "cache_read_input_tokens": 0}""",
        100_166_625,
    ),
    # claude-sonnet-4-5 in Anthropic's own shape: its input_tokens are the fresh ones alone.
    # 2,095 x 3,000 + 2,051 x 300 + 1,024 x 3,750 + 1,027 x 6,000 + 503 x 15,000
    # = 6,285,000 + 615,300 + 3,840,000 + 6,162,000 + 7,545,000
    "anthropic, every bucket": (
        *("anthropic", "claude-sonnet-4-5"),
        """{"input_tokens": 2095, "cache_creation_input_tokens": 2051, "cache_read_input_tokens": 2051,
            "cache_creation": {"ephemeral_5m_input_tokens": 1024, "ephemeral_1h_input_tokens": 1027},
            "output_tokens": 503, "server_tool_use": null, "service_tier": "standard"}""",
        24_447_300,
    ),
    # The provider's own figure, to the digit: $0.00014535.
    "openrouter, cost": (
        *("openrouter", "openai/gpt-4o-mini"),
        """{"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cost": 0.00014535, "is_byok": false,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "cost_details": {"upstream_inference_cost": null}, "completion_tokens_details": {"reasoning_tokens": 0}}""",
        145_350,
    ),
    # As Python and JavaScript print small numbers: $0.0000015.
    "openrouter, cost with an exponent": (
        *("openrouter", "z-ai/glm-4.6"),
        """{"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3, "cost": 1.5e-06, "is_byok": false}""",
        1_500,
    ),
    # 1.4 nano-dollars: a fraction of one is never free.
    "openrouter, cost below a nano-dollar's step": (
        *("openrouter", "z-ai/glm-4.6"),
        """{"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1, "cost": 0.0000000014}""",
        2,
    ),
    # With a key of one's own the fee and the upstream's price come together: $0.00001215 + $0.000243.
    "openrouter, own key": (
        *("openrouter", "anthropic/claude-opus-4.1"),
        """{"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12, "cost": 0.00001215, "is_byok": true,
            "cost_details": {"upstream_inference_cost": 0.000243}}""",
        255_150,
    ),
    # A cost of zero that the provider states is a price.
    "openrouter, free": (
        *("openrouter", "z-ai/glm-4.5-air:free"),
        """{"prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980, "cost": 0, "is_byok": false}""",
        0,
    ),
    # anthropic/claude-sonnet-4.5: 3.00 in, 0.30 read, 3.75 written, 15.00 out.
    # 500 x 3,000 + 500 x 300 + 1,000 x 3,750 + 100 x 15,000 = 1,500,000 + 150,000 + 3,750,000 + 1,500,000
    "openrouter, no cost, cache read and write": (
        *("openrouter", "anthropic/claude-sonnet-4.5"),
        """{"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100,
            "prompt_tokens_details": {"cached_tokens": 500, "cache_write_tokens": 1000, "audio_tokens": 0}}""",
        6_900_000,
    ),
    # anthropic/claude-sonnet-4.5 beyond 200,000: 6.00 in, 0.60 read, 22.50 out.
    # 1,001 x 6,000 + 199,000 x 600 + 10 x 22,500 = 6,006,000 + 119,400,000 + 225,000
    "openrouter, no cost, long context": (
        *("openrouter", "anthropic/claude-sonnet-4.5"),
        """{"prompt_tokens": 200001, "completion_tokens": 10, "total_tokens": 200011, "cost": null,
            "prompt_tokens_details": {"cached_tokens": 199000}}""",
        125_631_000,
    ),
    # glm-4.6: 0.60 in, 0.11 cached, 2.20 out.
    # 176 x 600 + 1,024 x 110 + 300 x 2,200 = 105,600 + 112,640 + 660,000
    "z.ai, cached": (
        *("zai", "glm-4.6"),
        """{"completion_tokens": 300, "prompt_tokens": 1200, "prompt_tokens_details": {"cached_tokens": 1024},
            "total_tokens": 1500}""",
        878_240,
    ),
    # glm-5.3: 1.40 in, 4.40 out. 20 x 1,400 + 816 x 4,400 = 28,000 + 3,590,400
    "z.ai, reasoning": (
        *("zai", "glm-5.3"),
        """{"completion_tokens": 816, "completion_tokens_details": {"reasoning_tokens": 700}, "prompt_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 0}, "total_tokens": 836}""",
        3_618_400,
    ),
    # glm-4.7-flash is free: a known price of zero.
    "z.ai, free": (
        *("zai", "glm-4.7-flash"),
        """{"completion_tokens": 9000, "prompt_tokens": 90000, "total_tokens": 99000}""",
        0,
    ),
    # deepseek-chat: 0.28 in, 0.028 cached, 0.42 out; the cached tokens are told twice.
    # 92 x 280 + 1,408 x 28 + 200 x 420 = 25,760 + 39,424 + 84,000
    "deepseek, cached": (
        *("deepseek", "deepseek-chat"),
        """{"prompt_tokens": 1500, "completion_tokens": 200, "total_tokens": 1700,
            "prompt_tokens_details": {"cached_tokens": 1408}, "prompt_cache_hit_tokens": 1408,
            "prompt_cache_miss_tokens": 92}""",
        149_184,
    ),
    # grok-4: 3.00 in, 0.75 cached, 15.00 out; reasoning is in the total only, and billed as output: 135 - 32 = 103.
    # 26 x 3,000 + 6 x 750 + 103 x 15,000 = 78,000 + 4,500 + 1,545,000
    "xai, reasoning beside the completion": (
        *("xai", "grok-4"),
        """{"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
            "prompt_tokens_details": {"text_tokens": 32, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 94, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}, "num_sources_used": 0}""",
        1_627_500,
    ),
    # gemini-2.5-pro beyond 200,000: 2.50 in, 0.25 cached, 15.00 out.
    # 50,000 x 2,500 + 200,000 x 250 + 1,000 x 15,000 = 125,000,000 + 50,000,000 + 15,000,000
    "gemini over LiteLLM, long context": (
        *("gemini", "gemini-2.5-pro"),
        """{"completion_tokens": 1000, "prompt_tokens": 250000, "total_tokens": 251000,
            "completion_tokens_details": {"reasoning_tokens": 600, "text_tokens": 400},
            "prompt_tokens_details": {"cached_tokens": 200000, "text_tokens": 50000}}""",
        190_000_000,
    ),
}


@pytest.mark.parametrize(("provider", "model", "sent", "nano"), INVOICES.values(), ids=INVOICES)
def test_golden_invoice(provider: str, model: str, sent: str, nano: int) -> None:
    """What the provider counted, at the price that the bundled maps know, is the amount worked out by hand."""
    payload = {"usage": json.loads(sent)}
    route = Route(asked=model, provider=provider, name=model, wire="direct", base_url=None, api_key=None)
    info = CATALOGUE.find(provider, model)
    price = info.price if info and info.price else CEILING
    candidate = Candidate(route=route, wire=DirectWire(), info=info, price=price, price_source="map")
    charge = candidate.charge(usage_in(payload), cost_in(payload, provider), bound=10**12)
    assert charge.nano == nano
    assert charge.source == ("provider" if payload["usage"].get("cost") is not None else "map")


@pytest.mark.parametrize("sent", [sent for _, _, sent, _ in INVOICES.values()], ids=INVOICES)
def test_every_token_lands_in_one_bucket(sent: str) -> None:
    """Nothing that was counted is lost or counted twice on the way into the four buckets."""
    usage = json.loads(sent)
    total = usage.get("total_tokens", 2_095 + 2_051 + 2_051 + 503)
    read = usage_in({"usage": usage})
    assert isinstance(read, Usage)
    assert read.total_tokens == total
