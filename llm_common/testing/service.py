"""From one request to the plan of its answer: route, key, checks, script or answer function, bill."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from typing import Any, Final, cast

from llm_common.testing.anthropic_wire import parse_messages
from llm_common.testing.billing import DEFAULT_PRICE, SEARCH_PRICE_USD, TokenPrice
from llm_common.testing.default_answers import default_answer, default_search_answer
from llm_common.testing.embeddings_wire import parse_embeddings, render_embeddings
from llm_common.testing.errors import Problem, Refusal, error_answer
from llm_common.testing.faults import Fault
from llm_common.testing.generation import generate
from llm_common.testing.models_wire import render_models
from llm_common.testing.openai_request import parse_chat
from llm_common.testing.plan import Plan, plan_answer, plan_error, plan_fault
from llm_common.testing.script import Script
from llm_common.testing.search_wire import parse_search, render_search, search_of_chat
from llm_common.testing.served import Served, altered_reply, serve_chat, serve_list
from llm_common.testing.wire import (
    Answer,
    AnswerFunction,
    ChatRequest,
    EndpointName,
    Json,
    ProviderName,
    Reply,
    SearchAnswerFunction,
)
from llm_common.usage import Usage

__all__ = ["UNKNOWN_MODEL_PREFIX", "Incoming", "Service"]

UNKNOWN_MODEL_PREFIX: Final = "no-such-"
_REQUEST_ID_HEADERS: Final[Mapping[ProviderName, str]] = {
    "openai": "x-request-id",
    "openrouter": "x-generation-id",
    "anthropic": "request-id",
    "zai": "x-log-id",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A request that was read. `route_problem` is set where no endpoint answers to its path or method."""

    provider: ProviderName
    endpoint: EndpointName
    is_coding_plan: bool
    headers: Mapping[str, str]
    raw_body: bytes
    route_problem: Problem | None


@dataclass(slots=True, kw_only=True)
class Service:
    """What the server knows. Not shared between servers."""

    api_key: str
    coding_key: str
    answer: AnswerFunction = default_answer
    search_answer: SearchAnswerFunction = default_search_answer
    models: Collection[str] | None = None
    prices: Mapping[str, TokenPrice] = field(default_factory=dict[str, TokenPrice])
    default_price: TokenPrice = DEFAULT_PRICE
    script: Script = field(default_factory=Script)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def decide(self, incoming: Incoming) -> Plan:
        """The plan for one request. Only the host's answer functions can raise here."""
        number = next(self._numbers)
        request_id = f"req_{number:012d}"
        try:
            plan = self._accept(incoming, number, request_id)
        except Refusal as refusal:
            error = error_answer(incoming.provider, refusal.problem, request_id)
            plan = plan_error(f"refused:{error.status}", error)
        return _with_header(plan, _REQUEST_ID_HEADERS[incoming.provider], request_id)

    def _accept(self, incoming: Incoming, number: int, request_id: str) -> Plan:
        if incoming.route_problem is not None:
            raise Refusal(incoming.route_problem)
        self._check_key(incoming)
        if incoming.endpoint == "models":
            body = render_models(incoming.provider, self._model_names())
            return plan_answer(serve_list(incoming.provider, "", body, "data", cost_usd=Decimal(0)))
        body = _json_object(incoming.raw_body)
        served, fault = self._serve(incoming, body, number)
        return plan_answer(served) if fault is None else plan_fault(fault, served, request_id)

    def _serve(self, incoming: Incoming, body: Json, number: int) -> tuple[Served, Fault | None]:
        if incoming.endpoint == "search":
            return self._search(incoming.provider, body, number)
        if incoming.endpoint == "embeddings":
            return self._embeddings(incoming.provider, body)
        anthropic = incoming.provider == "anthropic"
        request = parse_messages(body) if anthropic else parse_chat(incoming.provider, body)
        self._check_model(request.model)
        return self._chat(request, self.script.next_for(incoming.endpoint) or self._asked(request), number)

    def _asked(self, request: ChatRequest) -> Fault | Reply:
        answer = self.answer(request)
        if not isinstance(answer, Answer):
            return answer
        return Reply(text=answer.text, tool_calls=answer.tool_calls, finish_reason=answer.finish_reason)

    def _chat(self, request: ChatRequest, item: Fault | Reply, number: int) -> tuple[Served, Fault | None]:
        fault = item if isinstance(item, Fault) else None
        reply = self._undisturbed(request) if isinstance(item, Fault) else self._spoken(request, item)
        if fault is not None:
            reply = altered_reply(fault, reply, request)
        search, extra = search_of_chat(request), Decimal(0)
        if search is not None:
            results = tuple(self.search_answer(search)) if reply.results is None else reply.results
            reply, extra = replace(reply, results=results), SEARCH_PRICE_USD
        price = self.prices.get(request.model, self.default_price)
        generation = generate(
            request,
            reply,
            number=number,
            price=price,
            extra_cost_usd=extra,
            no_choices=fault is not None and fault.name == "empty_choices",
        )
        return serve_chat(generation, reply), fault

    def _spoken(self, request: ChatRequest, reply: Reply) -> Reply:
        """`reply`, with the words of the answer function where it has none of its own."""
        if reply.text is not None or reply.tool_calls:
            return reply
        words = self._undisturbed(request)
        finish = reply.finish_reason or words.finish_reason
        return replace(reply, text=words.text, tool_calls=words.tool_calls, finish_reason=finish)

    def _undisturbed(self, request: ChatRequest) -> Reply:
        """What the model would have said, had the fault not come."""
        answer = self._asked(request)
        return answer if isinstance(answer, Reply) else Reply(text=default_answer(request).text)

    def _search(self, provider: ProviderName, body: Json, number: int) -> tuple[Served, Fault | None]:
        request = parse_search(body)
        item = self.script.next_for("search")
        fault = item if isinstance(item, Fault) else None
        scripted = item.results if isinstance(item, Reply) else None
        results = self.search_answer(request) if scripted is None else scripted
        answer = render_search(results, number)
        served = serve_list(provider, "", answer, "search_result", cost_usd=SEARCH_PRICE_USD, fault=fault)
        return _as_scripted(served, item), fault

    def _embeddings(self, provider: ProviderName, body: Json) -> tuple[Served, Fault | None]:
        request = parse_embeddings(provider, body)
        self._check_model(request.model)
        item = self.script.next_for("embeddings")
        fault = item if isinstance(item, Fault) else None
        price = self.prices.get(request.model, self.default_price)
        cost = price.cost(Usage(input_tokens=request.tokens))
        answer = render_embeddings(request, cost)
        served = serve_list(provider, request.model, answer, "data", cost_usd=cost, fault=fault)
        return _as_scripted(served, item), fault

    def _check_key(self, incoming: Incoming) -> None:
        headers = {name.lower(): value for name, value in incoming.headers.items()}
        if incoming.provider == "anthropic":
            key = headers.get("x-api-key", "")
        else:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            key = key.strip() if scheme.lower() == "bearer" else ""
        if not key:
            raise Refusal(Problem(kind="no_key"))
        if incoming.provider == "zai" and key == self.coding_key:
            # A coding-plan key has no balance on the general address.
            if not incoming.is_coding_plan:
                raise Refusal(Problem(kind="no_money"))
        elif key != self.api_key:
            raise Refusal(Problem(kind="wrong_key"))
        if incoming.provider == "anthropic" and not headers.get("anthropic-version"):
            raise Refusal(Problem(kind="invalid_request", message="anthropic-version: header is required"))

    def _check_model(self, model: str) -> None:
        known = not model.startswith(UNKNOWN_MODEL_PREFIX) if self.models is None else model in self.models
        if not known:
            raise Refusal(Problem(kind="unknown_model", subject=model))

    def _model_names(self) -> list[str]:
        return sorted({*self.prices, *(self.models or ())})


def _as_scripted(served: Served, item: Fault | Reply | None) -> Served:
    """`served` with the price and the pace that a reply asks for."""
    if not isinstance(item, Reply):
        return served
    cost = served.cost_usd if item.cost_usd is None else item.cost_usd
    return replace(served, cost_usd=cost, headers=item.headers, delay=item.delay)


def _json_object(raw: bytes) -> Json:
    try:
        body: Any = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        message = "We could not parse the JSON body of your request."
        raise Refusal(Problem(kind="invalid_request", message=message))
    return cast("Json", body)


def _with_header(plan: Plan, name: str, value: str) -> Plan:
    return replace(plan, headers={name: value, **plan.headers})
