"""A pipeline: layers folded around a transport, and the life of its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
)
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import attrs

from lamella._assembly import as_layer, as_transport, listed, place_of, terminal_of
from lamella._attempts import DEFAULT_ATTEMPTS, AttemptBound
from lamella._background import Background
from lamella._calls import Call
from lamella._clock import Clock
from lamella._context import NotBegun
from lamella._ending import not_a_response, outcome_of
from lamella._errors import ClosedError, ConfigurationError, LamellaError, NotBegunError
from lamella._evolve import put
from lamella._fingerprints import layer_inside, transport_inside
from lamella._fold import Step, fold
from lamella._layers import LayerInfo, info_of, name_of
from lamella._loops import Waiter
from lamella._many import Progress, run_many
from lamella._once import Once, Streaming
from lamella._order import Doubt, arranged, check_order
from lamella._outcomes import Outcome
from lamella._pipeline_closing import Closable
from lamella._ports import default_ports
from lamella._requests import Request
from lamella._responses import Response
from lamella._trace import Trace

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lamella._bulk_map import MapRun, SyncMapRun
    from lamella._bulk_options import AnyRows, MapGiven, Rows
    from lamella._chat import ChatRequest, ChatResponse
    from lamella._explain import Explanation
    from lamella._handlers import Layer, Transport
    from lamella._health import Health
    from lamella._ports import Ports
    from lamella._preset_records import Preset
    from lamella._returns import Returns
    from lamella._stores import Stores

R = TypeVar("R", bound=Response)
T = TypeVar("T")


class Pipeline(Closable):
    """Layers around a transport. Itself a handler: it may be another pipeline's transport.

    Made once and used by any number of tasks, threads and event loops. It needs no `async with`;
    `aclose` releases what its layers and its transport hold open.

    Args:
        layers: Middlewares, outermost first, or names of registered ones.
        transport: What talks to the provider, or the name of a registered transport.
        allow: Orders accepted although they leak data or lose money: `"cost outside retry"`.
        ports: The doors to time, chance and stores. None is the real world.
        max_attempts: How many attempts one model turn may make, whichever layers ask for them.
        name: What it is called in traces and health reports.
        stores: Where things are counted and kept: `Stores`, or some of its parts by name, each a
            store or, as in a file, a name or a table:
            `{"leases": {"use": "redis", "url": "env:REDIS_URL"}}`. The rest, and with None all, are
            those of `ports`. They close with the last pipeline that uses them.

    Raises:
        ConfigurationError: If a layer, transport or store is none, their order is unlawful, or a
            layer cannot work with the stores.
        UnknownNameError: If a name is not registered.
    """

    def __init__(  # noqa: PLR0913 - a stack, and what few need, by name
        self,
        layers: Sequence[Layer] = (),
        transport: Transport = "mock",
        *,
        allow: Collection[str] = (),
        ports: Ports | None = None,
        max_attempts: int = DEFAULT_ATTEMPTS,
        name: str = "pipeline",
        stores: Stores | Mapping[str, Any] | None = None,
    ) -> None:
        given = cast("object", max_attempts)
        if not isinstance(given, int) or isinstance(given, bool):
            msg = f"max_attempts={max_attempts!r} is no whole number; it is 1 or more."
            raise ConfigurationError(msg)
        if given < 1:
            msg = f"max_attempts={max_attempts!r} would let no request out; it is 1 or more."
            raise ConfigurationError(msg)
        self.name = name
        self.layers: tuple[Any, ...] = tuple([as_layer(item) for item in listed(layers)])
        self.transport: Any = as_transport(transport)
        self.infos: tuple[LayerInfo, ...] = tuple([info_of(layer) for layer in self.layers])
        self.doubts: tuple[Doubt, ...] = tuple(check_order(self.infos, allow))
        self.allow = tuple(allow)
        self.max_attempts = max_attempts
        self._ports = ports
        self._stores: tuple[Any, ...] = () if ports is None else (ports.stores,)
        if stores is not None:
            from lamella._named_stores import with_stores

            self._ports, self._stores = with_stores(stores, ports)
        if self._ports is not None:  # the process's own suit every layer
            for layer in self.layers:
                check = getattr(layer, "check_stores", None)
                if callable(check):
                    check(self._ports.stores)
        self._provider = name_of(self.transport)
        self._timed = any(info.timed for info in self.infos)
        self._chains: dict[tuple[type, bool], Step] = {}
        self._background = Background()
        self._of_calls: dict[str, Any] = {  # what the contexts of all its calls say
            "parent_id": None,
            "deadline": None,
            "depth": len(self.layers),
            "branch": "",
            "asked_by": "",
            "provider": self._provider,
            "transport": self.transport,
            "other_targets": (),
            "spare_credentials": 0,
            "attempt": None,
            "background": self._background,
        }
        self._running: set[Call] = set()
        self._drained: list[Waiter] = []
        self._open()

    # --- running -----------------------------------------------------------------------------

    @overload
    def run(self, request: Request[R], /) -> Coroutine[Any, Any, R]: ...
    @overload
    def run(
        self, request: ChatRequest, /, *, returns: type[T] | Returns[T]
    ) -> Coroutine[Any, Any, ChatResponse[T]]: ...
    @overload
    def run(
        self, request: ChatRequest, /, *, returns: Mapping[str, Any]
    ) -> Coroutine[Any, Any, ChatResponse[Any]]: ...
    def run(self, request: Request[Any], /, *, returns: Any = None) -> Coroutine[Any, Any, Any]:
        """Send a request through the layers; its complete response.

        Args:
            request: What to ask. The same object may be run many times, and at once.
            returns: The type that `response.value` is to have; needs a layer that provides it, as
                `Structured` does. A class, `list[Person]`, `Returns[A | B]()`, or a JSON Schema.

        Raises:
            LamellaError: What went wrong; `error.attempts` has every attempt.
        """
        return Once(self._run(request, returns))

    async def _run(self, request: Request[R], returns: Any, within: float | None = None) -> R:
        request = self._begin(request, returns=returns, stream=False)
        call = request.context.call
        if within is not None:  # the context is of this call alone, so far
            context = request.context
            context.__dict__["deadline"] = context.clock.now() + within
        outcome = Outcome.COMPLETE
        try:
            chain = self._chains.get((type(request), request.context.timed))
            response: Any = await (chain or self._chain(request))(request)
            if not isinstance(response, Response):
                raise not_a_response(response, self._outermost)
            response = response.adopt(request)
            if response.outcome is not Outcome.COMPLETE:
                await response.collect()
            call.raise_failure()
            return response  # type: ignore[no-any-return]
        except BaseException as error:
            outcome = outcome_of(error)
            if isinstance(error, LamellaError):
                raise error.copy(attempts=call.trace.attempts) from error.__cause__
            raise
        finally:
            waiting = self._end(call, outcome)
            if waiting is not None:
                await waiting

    @overload
    def stream(self, request: Request[R], /) -> AbstractAsyncContextManager[R]: ...
    @overload
    def stream(
        self, request: ChatRequest, /, *, returns: type[T] | Returns[T]
    ) -> AbstractAsyncContextManager[ChatResponse[T]]: ...
    @overload
    def stream(
        self, request: ChatRequest, /, *, returns: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[ChatResponse[Any]]: ...
    def stream(
        self, request: Request[Any], /, *, returns: Any = None
    ) -> AbstractAsyncContextManager[Any]:
        """Send a request through the layers; a block in which its events can be read.

        ``async with pipeline.stream(request) as response:`` gives an open response. Leaving the
        block closes what is still open, down to the provider's socket.

        Args:
            request: What to ask.
            returns: As for `run`.
        """
        return Streaming(self, request, returns)

    async def enter_stream(self, request: Request[R], returns: Any) -> R:
        """Begin a streamed call; `Streaming` pairs it with `leave_stream`."""
        request = self._begin(request, returns=returns, stream=True)
        context = request.context
        try:
            response = await self._chain(request)(request)
            if not isinstance(response, Response):
                raise not_a_response(response, self._outermost)
            response = response.adopt(request)
            if response.complete:
                context.call.raise_failure()
        except BaseException as error:
            waiting = self._end(context.call, outcome_of(error))
            if waiting is not None:
                await waiting
            if isinstance(error, LamellaError):
                raise error.copy(attempts=context.trace.attempts) from error.__cause__
            raise
        response.outermost(context.clock)
        return cast("R", response)

    async def leave_stream(self, response: Response) -> None:
        """End a streamed call."""
        try:
            await response.aclose()
        finally:
            waiting = self._end(response.context.call, response.outcome or Outcome.UNKNOWN)
            if waiting is not None:
                await waiting

    @overload
    async def run_many(
        self,
        requests: Iterable[Request[R]],
        /,
        *,
        concurrency: int = 16,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> list[R | Exception]: ...
    @overload
    async def run_many(
        self,
        requests: Iterable[ChatRequest],
        /,
        *,
        returns: type[T] | Returns[T],
        concurrency: int = 16,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> list[ChatResponse[T] | Exception]: ...
    @overload
    async def run_many(
        self,
        requests: Iterable[ChatRequest],
        /,
        *,
        returns: Mapping[str, Any],
        concurrency: int = 16,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> list[ChatResponse[Any] | Exception]: ...
    async def run_many(
        self,
        requests: Iterable[Request[Any]],
        /,
        *,
        returns: Any = None,
        concurrency: int = 16,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> list[Any]:
        """Run many requests at once; their responses in the order of the requests.

        One that fails does not lose the others: its exception stands in its place.

        Args:
            requests: What to ask; taken from the iterable as places become free.
            returns: As for `run`.
            concurrency: How many may be under way at once; at least 1.
            on_progress: Told after each, on the event loop; it should return quickly.
        """

        def run(request: Request[Any]) -> Coroutine[Any, Any, Any]:
            return Once(self._run(request, returns))

        return await run_many(run, requests, concurrency, on_progress)

    @overload
    def map(self, rows: Rows[R], /, **options: Unpack[MapGiven]) -> MapRun[R]: ...
    @overload
    def map(self, rows: AnyRows, /, **options: Unpack[MapGiven]) -> MapRun[ChatResponse[Any]]: ...
    def map(self, rows: Any, /, **options: Unpack[MapGiven]) -> MapRun[Any]:
        """Run any number of rows, with a journal from which a later run goes on if this one ends.

        ``async with pipeline.map(rows, journal="work.journal") as work:`` begins, and
        ``async for result in work:`` gives a `MapResult` for each row, in the order of the rows.
        A row that fails loses no other: its result has an `error`.

        Args:
            rows: A list or any other iterable, asynchronous ones too, of requests, of pairs of an
                id and a request, of prompts, or of mappings as lines of `lamella map` have them.
                They are taken up to 256 ahead; an iterable that is no collection is read in
                a thread.
            **options: `journal` (the path of a file in which each result is kept before its row
                counts as done; None for none), `concurrency` (a number, or by itself
                `"adaptive"`: 8 rows at once at first, and as many as the provider takes well),
                `max_concurrency` (of that; 256), `returns` (as for `run`), `defaults` (a
                `ChatRequest` with what holds where a mapping is silent), `budget` (the most that
                all rows may cost: money, or a number of tokens; the run then stops), `row_timeout`
                (seconds for each row), `retry_failed` (whether rows that have failed with what may
                pass are asked again), `changed` (rows whose answer the journal has, and that ask
                something else now: `"refuse"` or ask them `"again"`), `restart` (whether the
                journal forgets what it has), `total` (how many rows there are, for progress),
                `on_progress` (told of a `MapProgress` after each row, on the event loop).

        Raises:
            ConfigurationError: If an option is wrong.
        """
        from lamella._bulk_map import MapRun
        from lamella._bulk_options import MapOptions

        return MapRun(self, rows, MapOptions(**options))

    @overload
    def map_sync(self, rows: Rows[R], /, **options: Unpack[MapGiven]) -> SyncMapRun[R]: ...
    @overload
    def map_sync(
        self, rows: AnyRows, /, **options: Unpack[MapGiven]
    ) -> SyncMapRun[ChatResponse[Any]]: ...
    def map_sync(self, rows: Any, /, **options: Unpack[MapGiven]) -> SyncMapRun[Any]:
        """`map` for synchronous code: `with pipeline.map_sync(rows) as work: for result in work:`.

        It works where `stream_sync` does.

        Args:
            rows: As for `map`.
            **options: As for `map`.
        """
        from lamella._bulk_map import SyncMapRun

        return SyncMapRun(lambda: self.map(rows, **options))

    @overload
    def run_sync(self, request: Request[R], /) -> R: ...
    @overload
    def run_sync(
        self, request: ChatRequest, /, *, returns: type[T] | Returns[T]
    ) -> ChatResponse[T]: ...
    @overload
    def run_sync(
        self, request: ChatRequest, /, *, returns: Mapping[str, Any]
    ) -> ChatResponse[Any]: ...
    def run_sync(self, request: Request[Any], /, *, returns: Any = None) -> Any:
        """`run` for synchronous code; see `stream_sync` for where it works."""
        from lamella._bridge import bridge

        return bridge().call(self._run, request, returns)

    @overload
    def stream_sync(self, request: Request[R], /) -> AbstractContextManager[R]: ...
    @overload
    def stream_sync(
        self, request: ChatRequest, /, *, returns: type[T] | Returns[T]
    ) -> AbstractContextManager[ChatResponse[T]]: ...
    @overload
    def stream_sync(
        self, request: ChatRequest, /, *, returns: Mapping[str, Any]
    ) -> AbstractContextManager[ChatResponse[Any]]: ...
    def stream_sync(
        self, request: Request[Any], /, *, returns: Any = None
    ) -> AbstractContextManager[Any]:
        """`stream` for synchronous code: `with pipeline.stream_sync(request) as response:`.

        It works in scripts, in notebooks with a running loop, from many threads, in tools and after
        a fork: one event loop in one daemon thread per process does the work.
        """
        from lamella._bridge import SyncStreaming

        return SyncStreaming(Streaming(self, request, returns))

    async def __call__(self, request: Request[R], /) -> R:
        """Answer a request that another pipeline has begun, within its call.

        Raises:
            NotBegunError: If no pipeline has begun it.
        """
        if not request.context.begun:
            msg = f"{self.name!r} was called with a request that no call has begun."
            raise NotBegunError(
                msg, hint="Use `await pipeline.run(request)` or `.stream(request)`."
            )
        self._refuse_if_closed()
        # Whatever the stack outside has aimed it at, here it goes to this pipeline's transport.
        context = request.context
        context = context.evolve(
            timed=context.timed or self._timed,
            depth=context.depth + len(self.layers),
            provider=self._provider,
            transport=self.transport,
            bound=context.bound.within(self.max_attempts),
        )
        request = request.evolve(target=None, context=context)
        return cast("R", await self._chain(request)(request))

    # --- looking -----------------------------------------------------------------------------

    def explain(self) -> Explanation:
        """The stack as it will run: print it."""
        from lamella._explain import explain

        return explain(self)

    async def health(self) -> Health:
        """Whether calls can be expected to work now. Bounded in time; never raises."""
        from lamella._health import health

        return await health(self, closed=self._closed, running=len(self._running))

    def __repr__(self) -> str:
        names = ", ".join(info.name for info in self.infos)
        return f"<Pipeline [{names}] -> {name_of(self.transport)}>"

    @property
    def fingerprint(self) -> str:
        """What decides its answers, as a digest: its layers that change something, its transport.

        See `lamella.inside`.
        """
        found = transport_inside(self.transport)
        for layer, info in zip(reversed(self.layers), reversed(self.infos), strict=True):
            found = layer_inside(layer, info, found)
        return found.digest

    @property
    def background(self) -> Background:
        """Its detached work."""
        return self._background

    @property
    def ports(self) -> Ports:
        """Its doors to the world."""
        return self._ports or default_ports()

    # --- making ------------------------------------------------------------------------------

    @classmethod
    def arrange(
        cls, layers: Sequence[Layer], transport: Transport = "mock", **options: Any
    ) -> Pipeline:
        """A pipeline whose layers are sorted by phase and constraints, in whatever order given.

        Args:
            layers: As for `Pipeline`.
            transport: As for `Pipeline`.
            **options: As for `Pipeline`.
        """
        found = [as_layer(item) for item in listed(layers)]
        return cls(arranged([(layer, info_of(layer)) for layer in found]), transport, **options)

    @classmethod
    def preset(
        cls,
        name: str | Preset | None = None,
        *,
        transport: Transport | Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> Pipeline:
        """The pipeline of a named preset.

        Args:
            name: Which, or the preset itself. None takes the environment variable `LAMELLA_ENV`,
                then `"development"`. It is looked for in `lamella.toml` (in the working directory,
                or where `LAMELLA_CONFIG` says), then among those added in code, then in plugins.
            transport: Replaces the preset's transport: as for `Pipeline`, or a table such as
                `{"use": "azure", "resource": "acme"}`.
            **overrides: A layer's name with options to set (`retry={"attempts": 5}`), with a layer
                that takes its place, with True to add it where its phase belongs, or with None to
                leave it out; `allow`, `max_attempts`, `ports` or `stores` as for `Pipeline`; or
                `config`, the path of a file to read instead of `lamella.toml`.

        Raises:
            UnknownNameError: If there is no such preset, layer or transport.
            ConfigurationError: If an option is wrong; all mistakes at once.
        """
        from lamella._presets import build_preset

        return build_preset(cls, name, transport, overrides)

    # --- the core's own ----------------------------------------------------------------------

    def _begin(self, request: Request[R], *, returns: Any, stream: bool) -> Request[R]:
        if not isinstance(request, Request):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"A pipeline runs requests, not {type(request).__name__}."
            raise TypeError(msg + ' Write ChatRequest.of("...", model="...").')
        if self._closed:
            self._refuse_if_closed()
        given = request.context
        if given.deadline is not None and not given.begun:
            msg = "Context(deadline=...) was given, but it is an instant on the clock of a call."
            raise ConfigurationError(msg, hint="Put Deadline(seconds) among the layers.")
        if returns is not None:
            request = self._to_return(request, returns)
        ports: Any = given.ports
        if type(ports) is NotBegun:
            ports = self._ports or default_ports()
        call_id = ports.new_id()
        trace = Trace(call_id, monotonic=ports.monotonic, wall=ports.wall())
        call = Call(trace)
        context = put(given, self._of_calls)
        fields = context.__dict__
        fields["call_id"] = call_id
        fields["timed"] = given.timed or self._timed
        fields["bound"] = AttemptBound(self.max_attempts)
        fields["ports"] = ports
        fields["clock"] = Clock(ports.monotonic)
        fields["trace"] = trace
        fields["call"] = call
        self._running.add(call)
        return put(request, {"context": context, "stream": stream, "target": None})

    def _end(self, call: Call, outcome: Outcome) -> Awaitable[None] | None:
        """End a call; None where nothing was left open in it, so that nothing is to be awaited."""
        waiting = call.over(outcome)
        if waiting is not None:
            return self._end_after(waiting, call)
        self._running.discard(call)
        if self._drained:
            self._ended(call)
        return None

    async def _end_after(self, waiting: Awaitable[None], call: Call) -> None:
        try:
            await waiting
        finally:
            self._ended(call)

    def _ended(self, call: Call) -> None:
        self._running.discard(call)
        if self._drained and not self._running:
            waiters, self._drained = self._drained, []
            for waiter in waiters:
                waiter.wake()

    def _chain(self, request: Request[Any]) -> Step:
        key = (type(request), request.context.timed)
        chain = self._chains.get(key)
        if chain is None:
            pairs = zip(self.layers, self.infos, strict=True)
            layers = [pair for pair in pairs if issubclass(key[0], pair[1].requests)]
            terminal, place = terminal_of(self.transport), place_of(self.transport)
            chain = fold(layers, terminal, place, timed=key[1], size=len(self.layers))
            self._chains[key] = chain
        return chain

    @property
    def _outermost(self) -> object:
        return self.layers[0] if self.layers else self.transport

    def _refuse_if_closed(self) -> None:
        if self._closed:
            msg = f"{self.name!r} has been closed."
            raise ClosedError(msg, hint="Make a new pipeline, or close this one later.")

    def _to_return(self, request: Request[R], returns: Any) -> Request[R]:
        from lamella._returns import asked_type

        if "returns" not in attrs.fields_dict(type(request)):
            msg = (
                f"`returns=` is for chat; the answer to {type(request).__name__} has its own type."
            )
            raise ConfigurationError(msg)
        if not self._provides_values:
            msg = "`returns=` needs a layer that turns answers into values, and there is none."
            raise ConfigurationError(msg, hint="Add Structured() to the layers.")
        return request.evolve(returns=asked_type(returns))

    @property
    def _provides_values(self) -> bool:
        """Whether a layer does, of its own or of the pipeline that is its transport."""
        inner = self.transport
        return any("value" in info.provides for info in self.infos) or (
            isinstance(inner, Pipeline) and inner._provides_values  # noqa: SLF001 - its own class
        )
