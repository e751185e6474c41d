"""Cost: where prices come from, what happens without one, and who else may ask for them."""

from __future__ import annotations

import datetime as dt
import json
import logging
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    DeadlineExceeded,
    Head,
    Money,
    Pipeline,
    Price,
    RefusedError,
    Request,
    ServerError,
    Target,
    UnknownNameError,
    Usage,
    provided,
)
from lamella._price_sources import Pricing
from lamella._registry import Registry, using
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.retry import Retry

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello there", model="m")
ANSWER = ChatResponse.of("so be it", usage=Usage(uncached_input=1_000_000))


class Known:
    """A source that knows one model, and remembers what it was asked."""

    def __init__(self, model: str, dollars: str) -> None:
        self._model = model
        self._price = Price.of(input=dollars, output="1")
        self.asked: list[tuple[str, str, dt.date]] = []

    def price(self, provider: str, model: str, day: dt.date, /) -> Price | None:
        """See `PriceSource`."""
        self.asked.append((provider, model, day))
        return self._price if model == self._model else None


class Edited(Known):
    """A source that says when it has been changed."""

    edited = 0

    def edition(self) -> int:
        """See `PriceSource`."""
        return self.edited

    def edit(self, dollars: str) -> None:
        """Have another price from now on."""
        self._price = Price.of(input=dollars, output="1")
        self.edited += 1


class Broken:
    """A source whose service is down."""

    name = "broken"

    def price(self, provider: str, model: str, day: dt.date, /) -> Price | None:
        """Fails."""
        raise OSError("no route to host")


class Odd:
    """A source that gives what is no price."""

    def price(self, provider: str, model: str, day: dt.date, /) -> Any:
        """A number."""
        return -1


class Read:
    """A source that reads before it answers."""

    def __init__(self, error: Exception | None = None) -> None:
        self.reads = 0
        self._error = error

    def load(self) -> None:
        """Read, once."""
        self.reads += 1
        if self._error is not None:
            raise self._error

    def price(self, provider: str, model: str, day: dt.date, /) -> Price | None:
        """See `PriceSource`."""
        return Price.of(input="3", output="1") if self.reads else None


async def cost_with(*sources: Any, answers: Any = ANSWER, **options: Any) -> Any:
    """The response of one call whose prices come from these sources."""
    layer = Cost(sources=sources, **options)
    return await Pipeline([layer], Scripted([answers]), ports=virtual_ports()).run(ASK)


# --- sources ----------------------------------------------------------------------------------


async def test_the_first_source_that_knows_the_model_wins() -> None:
    """In the order given, and after what the program states."""
    first, second = Known("m", "2"), Known("m", "5")
    response = await cost_with(Known("other", "1"), first, second)
    assert response.cost == Money.of("2")
    assert [asked[:2] for asked in first.asked] == [("scripted", "m")]
    assert second.asked == []
    assert (await cost_with(first, prices={"m": {"input": "7"}})).cost == Money.of("7")


async def test_a_source_that_fails_is_noted_and_the_next_one_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also one that gives what is no price; each is logged once, not for every call."""
    layer = Cost(sources=[Broken(), Odd(), Known("m", "2")])
    pipe = Pipeline([layer], Scripted([ANSWER], repeat=True), ports=virtual_ports())
    with caplog.at_level(logging.WARNING, "lamella"):
        await pipe.run(ASK)
        response = await pipe.run(ASK)
    assert response.cost == Money.of("2")
    failed = [dict(note.fields) for note in response.trace.notes]
    assert failed == [
        {"source": "broken", "error": "OSError"},
        {"source": "odd", "error": "TypeError"},
    ]
    assert len(caplog.records) == 2


async def test_a_source_reads_once_whoever_asks() -> None:
    """Off the event loop, where a call comes to need it; one that fails is left alone a while."""
    read = Read()
    layer = Cost(sources=[read])
    pipe = Pipeline([layer], Scripted([ANSWER], repeat=True), ports=virtual_ports())
    for _ in range(3):
        assert (await pipe.run(ASK)).cost == Money.of("3")
    assert read.reads == 1
    down = Read(OSError("no disk"))
    layer = Cost(sources=[down, Known("m", "2")])
    pipe = Pipeline([layer], Scripted([ANSWER], repeat=True), ports=virtual_ports())
    for _ in range(3):
        assert (await pipe.run(ASK)).cost == Money.of("2")
    assert down.reads == 1


async def test_sources_are_named_as_anything_registered_is() -> None:
    """The library's own, and those of a third party."""
    known = Registry(entry_points=())
    known.add(price_sources={"ours": lambda: Known("m", "4")})
    with using(known):
        assert (await cost_with("ours")).cost == Money.of("4")
    assert Cost(sources=["cards", "genai_prices"]).sources == ["cards", "genai_prices"]
    with pytest.raises(UnknownNameError, match=r"^Cost\(sources=.*nowhere"):
        Cost(sources=["nowhere"])
    for wrong in ("cards", 5, [3]):
        with pytest.raises(
            ConfigurationError, match=r"^Cost\(sources=.*\): (3 is no source|give a list)"
        ):
            Cost(sources=wrong)  # type: ignore[arg-type]


async def test_what_an_edition_says_is_asked_once_a_day() -> None:
    """Kept are answers of a source with an edition: for the day, and until that rises."""
    source = Edited("m", "2")
    pipe = Pipeline(
        [Cost(sources=[source])], Scripted([ANSWER], repeat=True), ports=virtual_ports()
    )

    async def costs() -> tuple[Money | None, int]:
        source.asked.clear()
        return (await pipe.run(ASK)).cost, len(source.asked)

    assert [await costs(), await costs()] == [(Money.of("2"), 1), (Money.of("2"), 0)]
    source.edit("3")
    assert [await costs(), await costs()] == [(Money.of("3"), 1), (Money.of("3"), 0)]
    await anyio.sleep(86_400)
    assert [await costs(), await costs()] == [(Money.of("3"), 1), (Money.of("3"), 0)]


async def test_no_name_that_anybody_may_send_fills_the_memory() -> None:
    """A long one is looked up for each call, and not kept."""
    source = Edited("m" * 100_000, "2")
    cost = Cost(sources=[source])
    pipe = Pipeline([cost], Scripted([ANSWER], repeat=True))
    long = ChatRequest.of("hello there", model="m" * 100_000)
    assert [(await pipe.run(long)).cost for _ in "ab"] == [Money.of("2")] * 2
    assert not cost._known._found


class Numbered(Edited):
    """The same, with a number in the place of the method."""

    @property
    def edition(self) -> int:  # type: ignore[override]
        """See `PriceSource`."""
        return self.edited


async def test_an_edition_may_be_a_number_that_rises() -> None:
    """It is looked at for each call, as a method is asked."""
    source = Numbered("m", "2")
    pipe = Pipeline([Cost(sources=[source])], Scripted([ANSWER], repeat=True))
    assert [(await pipe.run(ASK)).cost for _ in "ab"] == [Money.of("2")] * 2
    assert len(source.asked) == 1
    source.edit("3")
    assert (await pipe.run(ASK)).cost == Money.of("3")


class Unsure(Known):
    """A source that cannot say which edition it is."""

    def edition(self) -> int:
        """Fails."""
        raise OSError("no route to host")


async def test_who_cannot_tell_its_edition_is_asked_for_every_call() -> None:
    """No call fails of it, and nothing is kept."""
    source = Unsure("m", "2")
    pipe = Pipeline([Cost(sources=[source])], Scripted([ANSWER], repeat=True))
    assert [(await pipe.run(ASK)).cost for _ in "ab"] == [Money.of("2")] * 2
    assert len(source.asked) >= 2


async def test_a_source_without_an_edition_is_asked_for_every_call() -> None:
    """It may change its mind at any time."""
    source = Known("m", "2")
    pipe = Pipeline(
        [Cost(sources=[source])], Scripted([ANSWER], repeat=True), ports=virtual_ports()
    )
    for count in (1, 2):
        await pipe.run(ASK)
        assert len(source.asked) == count


async def test_prices_are_those_of_the_day() -> None:
    """A row holds from its day on; before it there is none, and the next source is asked."""
    day = dt.date(1970, 1, 1) + dt.timedelta(seconds=virtual_ports().wall())
    later = day + dt.timedelta(days=1)
    rows: list[dict[str, Any]] = [{"input": "1"}, {"input": "9", "effective_from": later}]
    assert (await cost_with(prices={"m": rows})).cost == Money.of("1")
    rows[1]["effective_from"] = day.isoformat()
    assert (await cost_with(prices={"m": rows})).cost == Money.of("9")
    with pytest.raises(RefusedError):
        await cost_with(prices={"m": {"input": "9", "effective_from": later}})


@pytest.mark.parametrize("kind", ["toml", "json"])
async def test_a_file_has_prices_too(tmp_path: Path, kind: str) -> None:
    """The same tables."""
    file = tmp_path / f"prices.{kind}"
    table = {"scripted/m": {"input": "6", "effective_from": "2020-01-01"}}
    text = '["scripted/m"]\ninput = "6"\neffective_from = 2020-01-01\n'
    file.write_text(text if kind == "toml" else json.dumps(table))
    assert (await cost_with(prices=file)).cost == Money.of("6")
    assert (await cost_with(prices=str(file))).cost == Money.of("6")


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ({"m": {"input": "-1"}}, "'m': input = '-1': expected"),
        ({"m": {"input": 0.5}}, "'m': input = 0.5: expected"),
        ({"m": {"inptu": "1"}}, "inptu"),
        ({"m": []}, "effective_from"),
        ({"m": [{"input": "1"}, {"input": "2"}]}, "all different"),
        ({"m": {"input": "1", "effective_from": 5}}, "expected a day"),
        ({"m": None}, "neither a Price nor a table"),
        ({"m": {"input": "1", "services": "batch"}}, "services = 'batch': expected a table"),
        ({"m": {"input": "1", "currency": "usd"}}, "currency is 'usd': an ISO 4217 code"),
        ({"m": {"input": "1", "currency": 5}}, "currency is 5"),
        ({5: {"input": "1"}}, "5: a model's name is a text"),
        (5, "a table of prices by model, or a file's path, not int"),
        ("nowhere.toml", "nowhere.toml: cannot be read"),
        ("nowhere.json", "nowhere.json: cannot be read"),
    ],
)
def test_a_table_with_what_is_no_price_is_refused_at_once(prices: Any, says: str) -> None:
    """When the layer is made, with what is wrong and what to write."""
    with pytest.raises(ConfigurationError, match=says):
        Cost(prices)


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    """With its name."""
    for text in ("{", "[1]"):
        file = tmp_path / "prices.json"
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=r"prices\.json: "):
            Cost(file)


class Placed(Scripted):
    """A transport whose models have another provider's cards."""

    card_provider = "house"


async def test_what_the_program_states_wins_under_any_name() -> None:
    """Also where a source knows the first name: the transport's own, which has a card."""
    for own in ("house/mock", "mock"):
        transport = Placed([ANSWER], name="mock")
        pipe = Pipeline([Cost({own: {"input": "7"}})], transport, ports=virtual_ports())
        assert (await pipe.run(ASK.evolve(model="mock"))).cost == Money.of("7")


async def test_the_price_is_that_of_the_day_on_which_the_attempt_began() -> None:
    """An answer that names another model is priced when it has come, which may be tomorrow."""
    answer = ScriptedAnswer((86_400.0, *ANSWER.events), head=Head(model="m-2026"))
    for model in ("m", "m-2026"):
        day = dt.date(1970, 1, 1) + dt.timedelta(seconds=virtual_ports().wall())
        rows = [{"input": "1"}, {"input": "9", "effective_from": day + dt.timedelta(days=1)}]
        response = await cost_with(prices={"m": {"input": "1"}, model: rows}, answers=answer)
        assert response.cost == Money.of("1")


# --- reading ----------------------------------------------------------------------------------

SERVED = ScriptedAnswer(ANSWER.events, head=Head(model="n"))


async def test_prices_of_another_model_that_answers_are_read_in_a_thread() -> None:
    """They are needed when the answer is over, where nothing can be waited for."""
    read, threads = Read(), []

    async def thread(work: Any, *args: Any) -> Any:
        threads.append(read.reads)
        return work(*args)

    ports = attrs.evolve(virtual_ports(), thread=thread)
    layer = Cost(sources=[Known("m", "2"), read])
    pipe = Pipeline([layer], Scripted([SERVED], repeat=True), ports=ports)
    for _ in range(2):
        assert (await pipe.run(ASK)).cost == Money.of("3")
    assert threads == [0]


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelled_while_prices_are_read_the_answer_is_closed_and_metered(
    stream: bool,
) -> None:
    """The reading takes for ever; the attempt is on record, with its cost."""
    transport = Scripted([SERVED])
    traces: list[Any] = []

    async def thread(work: Any, *args: Any) -> Any:
        await anyio.sleep_forever()

    async def keep(request: Request[Any], call_next: Any) -> Any:
        traces.append(request.context.trace)
        return await call_next(request)

    ports = attrs.evolve(virtual_ports(), thread=thread)
    layers: list[Any] = [keep, Cost(sources=[Known("m", "2"), Read()])]
    async with Pipeline(layers, transport, ports=ports) as pipe:
        with anyio.move_on_after(5) as scope:
            if stream:
                async with pipe.stream(ASK) as response:
                    await response.collect()
            else:
                await pipe.run(ASK)
    assert scope.cancelled_caught
    assert transport.open_sources == 0
    (attempt,) = traces[0].attempts
    assert attempt.cost > Money(0)


async def test_where_the_deadline_leaves_no_time_to_read_nothing_is_read_or_sent() -> None:
    """Reading it on the event loop would hold up everybody, for a call that is lost anyway."""

    async def thread(work: Any, *args: Any) -> Any:
        await anyio.sleep(10)
        return work(*args)

    read, transport = Read(), Scripted([ANSWER])
    ports = attrs.evolve(virtual_ports(), thread=thread)
    pipe = Pipeline([Deadline(1), Cost(sources=[read])], transport, ports=ports)
    with pytest.raises(DeadlineExceeded):
        await pipe.run(ASK)
    assert (read.reads, transport.requests) == (0, [])


# --- without a price --------------------------------------------------------------------------


async def test_what_nobody_has_a_price_of_may_be_billed_by_a_stated_one() -> None:
    """With a note each time; a known price wins."""
    stated = {"input": "20", "output": "80"}
    for unknown in (stated, Price.of(input="20", output="80")):
        response = await cost_with(unknown=unknown)
        assert response.cost == Money.of("20")
        (note,) = response.trace.notes
        assert (note.name, note.fields["cost"]) == ("cost.assumed", "$20")
    response = await cost_with(Known("m", "2"), unknown=stated)
    assert response.cost == Money.of("2")
    assert not response.trace.notes


@pytest.mark.parametrize(
    ("name", "options", "request_", "says"),
    [
        # A gateway of one's own for a provider's models; a local model; no model; a service.
        ("gw.example.com", {}, {"model": "gpt-4o-mini"}, 'Cost(provider="openai")'),
        ("gw.example.com", {"provider": "azure"}, {"model": "gpt-4o-mini"}, 'Cost(prices={"gpt-4'),
        ("localhost:11434", {}, {"model": "qwen3:8b"}, '"0" for a model of your own'),
        ("mock", {}, {}, "names no model"),
        ("mock", {}, {"model": "mock", "service_tier": "gold"}, '"services": {"gold": "1/2"}'),
    ],
)
async def test_a_refusal_says_what_to_write(
    name: str, options: Any, request_: Any, says: str
) -> None:
    """For what is the matter; a provider is named only where nobody has named one."""
    pipe = Pipeline([Cost(**options)], Scripted([ANSWER], name=name), ports=virtual_ports())
    with pytest.raises(RefusedError) as caught:
        await pipe.run(ChatRequest.of("x", **request_))
    assert says in str(caught.value)
    assert ("Cost(provider=" in str(caught.value)) is (says == 'Cost(provider="openai")')


@pytest.mark.parametrize("wrong", ["free", None, 0, 1.5, True, {"input": 1}, {"inptu": "1"}])
def test_another_policy_is_refused_at_once(wrong: Any) -> None:
    """Whatever is neither a word that is known nor a price."""
    with pytest.raises(ConfigurationError, match="'refuse', 'note', or a price such as"):
        Cost(unknown=wrong)


async def test_sources_that_fail_after_the_answer_do_not_lose_it() -> None:
    """It is paid for: the model that answered has no price then, and the one that was asked has."""

    class Once(Known):
        def price(self, provider: str, model: str, day: dt.date, /) -> Price | None:
            if self.asked:
                self.asked.append((provider, model, day))
                raise ConfigurationError("the file was taken away")
            return super().price(provider, model, day)

    answer = ChatResponse.of("x", usage=Usage(uncached_input=1_000_000), model="m-2026")
    response = await cost_with(Once("m", "2"), answers=answer)
    assert response.cost == Money.of("2")
    assert [note.name for note in response.trace.notes] == ["cost.unread"]


# --- what the answer says ---------------------------------------------------------------------


async def test_the_head_of_an_answer_may_state_service_and_cost() -> None:
    """As transports of others give it."""
    price = Price.of(input="2", output="1", services={"flex": "1/2"})
    item = ("x", *ANSWER_EVENTS)
    for head, cost in [
        (Head(service="flex"), Money.of("1")),
        (Head(service="default"), Money.of("2")),
        (Head(cost=Money.of("1.5")), Money.of("1.5")),
        (Head(cost=Money(0)), Money.of("2")),
    ]:
        answer = ScriptedAnswer(item, head=head)
        response = await cost_with(prices={"m": price}, answers=answer)
        assert response.cost == cost


ANSWER_EVENTS = tuple(event for event in ANSWER.events if type(event).__name__ != "TextDelta")


# --- who else asks ----------------------------------------------------------------------------


async def test_a_layer_outside_asks_before_it_sends() -> None:
    """For the model and the transport that the request is aimed at, where no attempt is open."""
    found: list[Price | None] = []

    async def asks(request: Request[Any], call_next: Any) -> Any:
        pricing: Pricing = provided(call_next, "prices")
        await pricing.ready(request)
        found.append(pricing.price_of(request))
        other = Target("other", Scripted([ANSWER], name="elsewhere"), {"model": "n"})
        found.append(pricing.price_of(request.aim(other)))
        return await call_next(request)

    prices = {"scripted/m": Price.of(input="1"), "elsewhere/n": Price.of(input="2")}
    read = Read()
    pipe = Pipeline([asks, Cost(prices, sources=[read])], Scripted([ANSWER]), ports=virtual_ports())
    await pipe.run(ASK)
    assert found == [prices["scripted/m"], prices["elsewhere/n"]]


async def test_costs_are_told_apart_by_the_layer_that_asked() -> None:
    """The caller's own attempt and retries add up to what the call has cost."""
    failed: list[Any] = ["one ", ServerError("x")]
    pipe = Pipeline(
        [Retry(), Cost({"m": {"input": "1", "output": "1"}})],
        Scripted([failed, ANSWER]),
        ports=virtual_ports(),
    )
    trace = (await pipe.run(ASK)).trace
    by_layer = trace.costs_by_layer()
    assert by_layer.keys() == {"", "retry"}
    assert by_layer["retry"] == {"USD": Money.of("1")}
    assert trace.cost == by_layer[""]["USD"] + by_layer["retry"]["USD"]
    assert trace.record().costs_by_layer() == by_layer
