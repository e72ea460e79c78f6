"""The provider server: real HTTP on loopback that speaks as OpenAI, OpenRouter, z.ai and Anthropic do."""

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Collection, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack

from aiohttp import web

from llm_common.testing.billing import DEFAULT_PRICE, TokenPrice
from llm_common.testing.default_answers import default_answer, default_search_answer
from llm_common.testing.delivery import deliver
from llm_common.testing.journal import Entry, Journal
from llm_common.testing.plan import Plan
from llm_common.testing.routes import route
from llm_common.testing.script import Scripted
from llm_common.testing.service import Incoming, Service
from llm_common.testing.wire import AnswerFunction, EndpointName, RecordedRequest, SearchAnswerFunction

__all__ = ["FakeProvider", "ProviderOptions", "serve_forever"]

_MAX_BODY_BYTES: Final = 64 * 1024 * 1024


class ProviderOptions(TypedDict, total=False):
    """The arguments of `FakeProvider`, for those who pass them on."""

    answer: AnswerFunction | None
    search_answer: SearchAnswerFunction | None
    host: str
    port: int
    api_key: str | None
    models: Collection[str] | None
    prices: Mapping[str, TokenPrice] | None
    default_price: TokenPrice


class FakeProvider:
    """A provider of your own, with nothing to pay: `async with FakeProvider() as provider:`.

    It answers with `answer(request)` and `search_answer(request)`, or with what `script` was given. It knows the
    models in `models`; by default every one whose name does not begin with `no-such-`. It bills `prices` (USD per
    million tokens, by the model's name on the wire), `default_price` for the others. `port` 0 takes a free one.
    An error raised by one of your answer functions is raised again when the server closes.
    """

    def __init__(
        self,
        answer: AnswerFunction | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        search_answer: SearchAnswerFunction | None = None,
        api_key: str | None = None,
        models: Collection[str] | None = None,
        prices: Mapping[str, TokenPrice] | None = None,
        default_price: TokenPrice = DEFAULT_PRICE,
    ) -> None:
        #: The key that every provider here accepts. Random, so that a test can look for it where it must not be.
        self.api_key: Final = api_key or f"fake-{secrets.token_hex(12)}"
        #: A key of z.ai's coding plan: accepted under `/api/coding/paas/v4`, answered with 1113 elsewhere.
        self.zai_coding_key: Final = f"{self.api_key}-coding"
        self._service = Service(
            api_key=self.api_key,
            coding_key=self.zai_coding_key,
            answer=answer or default_answer,
            search_answer=search_answer or default_search_answer,
            models=models,
            prices=dict(prices or {}),
            default_price=default_price,
        )
        self._journal = Journal()
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self._handlers: set[asyncio.Task[object]] = set()
        self._errors: list[Exception] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        if error is None:
            self._raise_errors()

    async def start(self) -> None:
        """Listen. From here on `url` is known."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await self.close()
            raise
        self._port = int(runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening, and drop whoever still waits for an answer."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for handler in self._handlers:
            handler.cancel()
        await runner.cleanup()

    @classmethod
    @contextmanager
    def serve_in_thread(cls, **options: Unpack[ProviderOptions]) -> Generator[Self]:
        """The same server on a thread and an event loop of its own, for code that is not async, or has its own loop."""
        provider = cls(**options)
        started: Future[Callable[[], object]] = Future()
        thread = threading.Thread(target=provider._run, args=(started,), name="fake-provider", daemon=True)
        thread.start()
        stop = started.result()
        try:
            yield provider
        finally:
            stop()
            thread.join()
        provider._raise_errors()

    def _run(self, started: "Future[Callable[[], object]]") -> None:
        async def serve() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            try:
                await self.start()
            except OSError as error:
                started.set_exception(error)
                return
            started.set_result(lambda: loop.call_soon_threadsafe(stop.set))
            await stop.wait()
            await self.close()

        asyncio.run(serve())

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def openrouter_url(self) -> str:
        return f"{self.url}/api/v1"

    @property
    def zai_url(self) -> str:
        """Chat at `/chat/completions`, search at `/web_search`."""
        return f"{self.url}/api/paas/v4"

    @property
    def zai_coding_url(self) -> str:
        return f"{self.url}/api/coding/paas/v4"

    @property
    def anthropic_url(self) -> str:
        """Messages at `/v1/messages`."""
        return self.url

    def environment(self) -> dict[str, str]:
        """The variables that lead this package, and most SDKs, here."""
        return {
            "OPENAI_BASE_URL": self.openai_url,
            "OPENROUTER_API_BASE": self.openrouter_url,
            "ZAI_API_BASE": self.zai_url,
            "ANTHROPIC_BASE_URL": self.anthropic_url,
            "OPENAI_API_KEY": self.api_key,
            "OPENROUTER_API_KEY": self.api_key,
            "ZAI_API_KEY": self.api_key,
            "ANTHROPIC_API_KEY": self.api_key,
        }

    def script(self, *items: Scripted, endpoint: EndpointName | None = None) -> None:
        """Use `items` for the next requests, in order; each is used once, by the first request that it fits.

        A text, a model or a dict answers a chat, a list answers a search, a fault goes to any endpoint; `endpoint`
        restricts them. Requests that are refused use nothing up. Then the answer functions speak again.
        """
        self._service.script.extend(items, endpoint)

    def unscript(self) -> int:
        """Forget the scripted items that no request has used, and say how many there were."""
        return self._service.script.clear()

    @property
    def unused(self) -> int:
        """How many scripted items no request has used yet."""
        return len(self._service.script)

    @property
    def requests(self) -> list[RecordedRequest]:
        """What arrived so far, in order of arrival: a snapshot."""
        return self._journal.snapshot()

    @property
    def billed_usd(self) -> Decimal:
        """What all requests so far cost, unrounded."""
        return self._journal.billed_usd()

    async def arrived(self, count: int = 1, timeout: float = 5.0) -> None:
        """Wait until `count` requests have arrived since the start; TimeoutError after `timeout` seconds."""
        await self._wait(lambda: self._journal.arrived() >= count, timeout, f"{count} requests did not arrive")

    async def settled(self, timeout: float = 5.0) -> None:
        """Wait until no request is worked on any more; TimeoutError after `timeout` seconds."""
        await self._wait(lambda: self._journal.unfinished() == 0, timeout, "a request is still worked on")

    async def _wait(self, condition: Callable[[], bool], timeout: float, otherwise: str) -> None:
        # Off the loop: the server may live on this one, or on another thread's.
        if not await asyncio.to_thread(self._journal.wait_until, condition, timeout):
            raise TimeoutError(f"{otherwise} within {timeout} s")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        raw_body = await request.read()
        way = route(request.method, request.path, request.headers)
        entry = Entry(
            method=request.method,
            path=request.path,
            provider=way.provider,
            endpoint=way.endpoint,
            headers=dict(request.headers),
            body=_json_or_none(raw_body),
        )
        self._journal.add(entry)
        incoming = Incoming(
            provider=way.provider,
            endpoint=way.endpoint,
            is_coding_plan=way.is_coding_plan,
            headers=entry.headers,
            raw_body=raw_body,
            route_problem=way.problem,
        )
        try:
            return await deliver(request, self._decide(incoming, entry), entry)
        finally:
            self._journal.finish(entry)

    def _decide(self, incoming: Incoming, entry: Entry) -> Plan:
        try:
            return self._service.decide(incoming)
        except Exception as error:
            entry.outcome = f"broken:{type(error).__name__}"
            self._errors.append(error)
            raise

    def _raise_errors(self) -> None:
        if self._errors:
            raise ExceptionGroup("an answer function of the fake provider failed", self._errors)


def _json_or_none(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


async def serve_forever(
    *, ready: Callable[[FakeProvider], None] | None = None, **options: Unpack[ProviderOptions]
) -> None:
    """Serve in the foreground until cancelled. `ready` is called once, when the addresses are known."""
    async with FakeProvider(**options) as provider:
        if ready is not None:
            ready(provider)
        await asyncio.Event().wait()
