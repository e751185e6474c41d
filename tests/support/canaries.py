"""Personal data that is planted, and everything that an observer could get hold of."""

from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from lamella import (
    ChatRequest,
    Context,
    LamellaError,
    MemorySpend,
    Message,
    Packing,
    Pipeline,
    Request,
    Secret,
    ToolCall,
    request_key,
)
from lamella.testing import virtual_ports
from lamella.transports import OpenAI, OpenAIOptions
from lamella_middlewares import (
    PII,
    Audit,
    Budget,
    Cache,
    CircuitBreaker,
    Concurrency,
    Cost,
    Deadline,
    Debug,
    Fallback,
    Guard,
    Log,
    RateLimit,
    Retry,
    SingleFlight,
    Spend,
    Timeout,
)
from lamella_middlewares.guard import blocked_terms, injection_markers
from lamella_opentelemetry import OpenTelemetry
from lamella_prometheus import Prometheus, metrics_text

CANARIES = (
    "ada.lovelace@analytical.example",
    "4111 1111 1111 1111",
    "078-05-1121",
    "DE89 3704 0044 0532 0130 00",
    "+44 20 7946 0958",
    "203.0.113.77",
    "sk-ant-api03-" + "c4naryC4NARY" * 8,
)
MAIL, CARD, SSN, IBAN, PHONE, ADDRESS, KEY = CANARIES

ASKED = ChatRequest.of(
    [
        Message.system(f"You serve {MAIL}."),
        Message.user(f"My card is {CARD}, SSN {SSN}, {IBAN}. Call {PHONE} from {ADDRESS}."),
        Message.assistant(ToolCall("c1", "look_up", json.dumps({"who": MAIL, "key": KEY}))),
        Message.tool("c1", f"Found {MAIL}: {CARD}, key {KEY}"),
        Message.user(f"Write to {MAIL}."),
    ],
    model="gpt-4o-mini",
    tools=[{"type": "function", "function": {"name": "look_up", "description": f"Not {MAIL}"}}],
    extra={"metadata": {"owner": MAIL}},
    context=Context(tenant="acme", user="u1", session="s1"),
)


class World:
    """The stack, and everything that an observer could get hold of."""

    def __init__(
        self,
        url: str,
        directory: Path,
        *rules: Any,
        compose: Sequence[Any] = (),
        shape: Sequence[Any] = (),
        **options: Any,
    ) -> None:
        self.seen: list[object] = []
        self.directory = directory
        self.ports = virtual_ports()
        self.log = Log(sink=self.seen.append, level="debug", content=True)
        self.pii = PII(scope="session", key=Secret.of_value("0123456789abcdef-key"), **options)
        self.debug = Debug(sink=self.seen.append, content=True)
        self.spans = InMemorySpanExporter()
        tracing = TracerProvider(shutdown_on_exit=False)
        tracing.add_span_processor(SimpleSpanProcessor(self.spans))
        self.registry = CollectorRegistry()
        self.records = MemorySpend()
        spare = OpenAI("unused", base_url=url, options=OpenAIOptions(name="spare"))
        self.pipeline = Pipeline(
            [
                Deadline(120),
                self.debug,
                OpenTelemetry(tracer_provider=tracing, content=True),
                Prometheus(registry=self.registry, labels=("tenant",)),
                self.log,
                Spend(store=self.records),
                *compose,
                Audit(directory, key=Secret.of_value("an audit key of enough bytes....")),
                self.pii,
                Guard([blocked_terms(["nightfall"]), injection_markers(label="always"), *rules]),
                # Not compressed, so that what is kept can be looked through.
                Cache(when="all", packing=Packing(compress_above=None)),
                SingleFlight(),
                *shape,
                Fallback([spare]),
                Retry(attempts=2, base=0.01),
                Budget("100", per="user", window="day", unknown="note"),
                RateLimit(requests=100, tokens=1_000_000),
                Concurrency(10),
                CircuitBreaker(),
                Timeout(connect=2, first_event=5, idle=5),
                Cost(unknown="note"),
                self.spy,
            ],
            OpenAI("unused", base_url=url, options=OpenAIOptions(name="first")),
            ports=self.ports,
        )

    async def spy(self, request: Request[Any], call_next: Any) -> Any:
        """The innermost layer, which may be anybody's: an observer of requests and answers."""
        key = request_key(request)
        self.seen += [request, repr(request), repr(request.context), key]
        try:
            response = await call_next(request)
        except LamellaError as error:
            self.seen += list(told_by(error))
            raise
        self.seen += [repr(response), response.head]
        return response

    async def ask(
        self, *, stream: bool, asked: ChatRequest = ASKED, returns: Any = None
    ) -> LamellaError | None:
        """Ask, and keep what the failure says."""
        try:
            if stream:
                async with self.pipeline.stream(asked, returns=returns) as response:
                    self.trace = response.trace
                    self.answer = await response.collect()
            else:
                self.answer = await self.pipeline.run(asked, returns=returns)
                self.trace = self.answer.trace
        except LamellaError as error:
            self.seen += list(told_by(error))
            return error
        return None

    def looked_over(self) -> str:
        """All of it as one text."""
        self.log.flush()
        stores: Any = self.ports.stores
        found = [repr(self.pii), str(self.pipeline.explain()), *map(repr, self.seen)]
        if hasattr(self, "trace"):
            found += [repr(self.trace.notes), repr(self.trace.attempts), self.trace.draw()]
            found += [repr(shown.to_dict()) for shown in self.trace.content.values()]
            found += [repr(self.trace.content), self.trace.to_json(content=True)]
            found += [self.trace.page(content=True)]
        found += [span.to_json() for span in self.spans.get_finished_spans()]
        found += [repr(metrics_text(self.registry)), repr(self.records._records)]
        for key, entry in stores.blobs._entries.items():
            found += [key, repr(sorted(entry.tags)), repr(entry.data)]
        found += [repr(vars(stores.leases)), repr(vars(stores.local))]
        found += [repr(file.read_bytes()) for file in self.directory.rglob("*") if file.is_file()]
        return "\n".join(found)


SHOWN = ("partial", "text")
"""What an error gives of the answer to the caller, whose answer it is."""


def told_by(error: BaseException) -> Iterator[str]:
    """All that an error says, with its causes; what had been shown of the answer apart."""
    yield "".join(traceback.format_exception(error))
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        fields = {name: value for name, value in vars(one).items() if name not in SHOWN}
        yield f"{one!s} {one!r} {one.args!r} {fields!r}"
        waiting += [one.__cause__, one.__context__, *getattr(one, "errors", ())]
    try:
        bare: Any = error.copy(partial=None) if isinstance(error, LamellaError) else error
        if hasattr(bare, "text"):
            bare.text = ""
        yield repr(pickle.dumps(bare))
    except (TypeError, AttributeError, pickle.PicklingError):
        return


def spellings(canary: str) -> tuple[str, ...]:
    """How it could stand somewhere: as it is, without separators, escaped."""
    bare = canary.replace(" ", "").replace("-", "")
    return canary, bare, json.dumps(canary)[1:-1]


def must_hold_no_canary(text: str) -> None:
    """None of them, in any spelling."""
    for canary in CANARIES:
        for spelling in spellings(canary):
            place = text.find(spelling)
            assert place < 0, f"{canary} in: ...{text[max(0, place - 300) : place + 100]}"
