"""An async client for code without asyncio: its coroutines run on an event loop in a thread of its own."""

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from llm_common.exceptions import InvalidInputError

if TYPE_CHECKING:
    from llm_common.llm.streaming import CompletionStream, Delta
    from llm_common.models import Completion

__all__ = ["BlockingClient", "BlockingStream", "LoopThread", "blocking", "blocking_stream"]

T = TypeVar("T")
P = ParamSpec("P")


class _AsyncClient(Protocol):
    async def aclose(self) -> None: ...


ClientT = TypeVar("ClientT", bound=_AsyncClient)


class LoopThread:
    """An event loop in a daemon thread. It ends with `close`, with the last reference, or with the interpreter."""

    def __init__(self) -> None:
        started: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = (
            concurrent.futures.Future()
        )
        self._thread = threading.Thread(target=_serve, args=(started,), name="llm-common", daemon=True)
        self._thread.start()
        self._loop, stop = started.result()
        self._closed = False
        self._guard = threading.Lock()
        # Told by the garbage collector and at exit too, so that connections are closed in any case.
        self._end = weakref.finalize(self, _end, self._loop, stop, self._thread)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for it, from any thread. Ctrl-C cancels it and waits for its settlement."""
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            task = self._loop.create_task(work)
            tasks.append(task)
            task.add_done_callback(lambda done: _hand_over(done, outcome))

        def cancel() -> None:
            tasks[0].cancel()

        try:
            self._submit(start)
        except InvalidInputError:
            work.close()
            raise
        try:
            return outcome.result()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(cancel)
            concurrent.futures.wait([outcome])
            raise

    def close(self) -> None:
        """Cancel what still runs, close what the loop holds, end the thread."""
        with self._guard:
            self._closed = True
        self._end()

    def _submit(self, start: Callable[[], None]) -> None:
        if threading.current_thread() is self._thread:
            raise InvalidInputError(
                "a blocking call was made on the client's own event loop (in one of its hooks?), where it would wait "
                "for itself; use the async client there"
            )
        # Under the guard: what is handed to a loop that has been told to stop would never run.
        with self._guard:
            if self._closed:
                raise InvalidInputError("this client is closed; make another one with LLMClient(...).sync()")
            self._loop.call_soon_threadsafe(start)


def _serve(started: "concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
    async def until_stopped() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    # Cancels the tasks that are left and closes the sessions that are tied to the loop.
    asyncio.run(until_stopped())


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(stop.set)
    if threading.current_thread() is not thread:  # the garbage collector runs anywhere
        thread.join()


def _hand_over(task: asyncio.Task[T], outcome: "concurrent.futures.Future[T]") -> None:
    if task.cancelled():
        outcome.set_exception(concurrent.futures.CancelledError())
    elif error := task.exception():
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


class BlockingClient(Generic[ClientT]):
    """The base of a client whose methods wait. Safe from many threads; its thread starts with the first call."""

    def __init__(self, client: ClientT) -> None:
        self.client = client
        self._thread: LoopThread | None = None
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close the connections and end the thread. Calls that are under way are cancelled and settled."""
        with self._guard:
            thread = self._thread
        if thread is not None:
            try:
                thread.run(self.client.aclose())
            finally:
                thread.close()
            with self._guard:
                self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def loop_thread(self) -> LoopThread:
        """The thread in which the coroutines run."""
        with self._guard:
            if self._thread is None:
                self._thread = LoopThread()
            return self._thread


def blocking(
    method: Callable[Concatenate[ClientT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient[ClientT], P], T]:
    """An async method as one that waits, with the same arguments and the same words about them."""

    @wraps(method)
    def wait(self: BlockingClient[ClientT], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.loop_thread().run(method(self.client, *args, **kwargs))

    return wait


def blocking_stream(
    method: "Callable[Concatenate[ClientT, P], CompletionStream[T]]",
) -> "Callable[Concatenate[BlockingClient[ClientT], P], BlockingStream[T]]":
    """The same for a method that gives a stream."""

    @wraps(method)
    def open_stream(self: BlockingClient[ClientT], /, *args: P.args, **kwargs: P.kwargs) -> "BlockingStream[T]":
        return BlockingStream(self.loop_thread(), method(self.client, *args, **kwargs))

    return open_stream


class BlockingStream(Generic[T]):
    """A stream for plain loops: `with llm.stream(...) as stream: for delta in stream: ...`.

    Each piece is fetched when the loop asks for it; leaving the `with` closes the provider's connection and settles.
    """

    def __init__(self, thread: LoopThread, stream: "CompletionStream[T]") -> None:
        self._thread = thread
        self._stream = stream

    @property
    def completion(self) -> "Completion[T]":
        """The whole answer with usage and cost, once the stream has ended."""
        return self._stream.completion

    def __enter__(self) -> Self:
        self._thread.run(self._stream.__aenter__())
        return self

    def __iter__(self) -> "Iterator[Delta]":
        pieces = aiter(self._stream)

        async def following() -> "Delta | None":
            return await anext(pieces, None)

        while (delta := self._thread.run(following())) is not None:
            yield delta

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.run(self._stream.__aexit__(kind, error, traceback))
