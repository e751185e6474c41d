"""Warming a cache up: each line is a call, and what it comes to is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from lamella import (
    AuthenticationError,
    ChatRequest,
    ConfigurationError,
    Context,
    Handler,
    MisuseError,
    Pipeline,
    Request,
    Response,
    Secret,
    ServerError,
    middleware,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares import PII, Cache, SingleFlight
from lamella_middlewares.cache import Packing, WarmProgress, _warm_file, _warming

pytestmark = pytest.mark.anyio

Write = Callable[..., Path]

ACME = Context(tenant="acme")


def ask(text: str, **more: Any) -> dict[str, Any]:
    """A line that asks something."""
    message = {"role": "user", "content": text}
    return {"model": "m", "temperature": 0, "messages": [message], **more}


def chat(text: str) -> ChatRequest:
    """The same, as a program asks it."""
    return ChatRequest.of(text, model="m", temperature=0, context=ACME)


def stack(*layers: Any, answers: Any = ("one", "two", "three"), **more: Any) -> Any:
    """A pipeline of a cache and others in virtual time, the cache, and the transport."""
    cache = next(layer for layer in (*layers, Cache()) if isinstance(layer, Cache))
    transport = Scripted(answers, repeat=True, **more)
    found = layers if cache in layers else (*layers, cache)
    return Pipeline(found, transport, ports=virtual_ports()), cache, transport


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of lines: tables, or text as it is."""

    def written(*lines: Mapping[str, Any] | str) -> Path:
        path = tmp_path / "warm.jsonl"
        texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
        path.write_bytes("\n".join(texts).encode())
        return path

    return written


# --- what becomes of a line ----------------------------------------------------------------------


async def test_what_was_warmed_needs_no_call(write: Write) -> None:
    """Answers that were given, and that the model gave, serve runs and streams."""
    pipeline, cache, transport = stack()
    path = write(ask("a"), ask("b", answer="Given."), ask("a", tenant="other"))
    warmed = await cache.warm(pipeline, path, tenant="acme")
    assert (warmed.asked, warmed.kept, warmed.fresh, warmed.failed) == (2, 1, 0, 0)
    assert warmed.ok
    assert len(transport.requests) == 2
    assert (await pipeline.run(chat("b"))).text == "Given."
    async with pipeline.stream(chat("b")) as response:
        await response.collect()
    assert (response.text, response.head.cached, response.trace.attempts) == ("Given.", True, ())
    assert (await pipeline.run(chat("a"))).head.cached
    assert len(transport.requests) == 2


async def test_what_is_fresh_is_left(write: Write) -> None:
    """A second run asks nobody; with `refresh` it asks all, and replaces what was given."""
    pipeline, cache, transport = stack()
    path = write(ask("a"), ask("b", answer="Given."))
    await cache.warm(pipeline, path, tenant="acme")
    again = await cache.warm(pipeline, path, tenant="acme")
    assert (again.fresh, again.asked, again.kept) == (2, 0, 0)
    assert len(transport.requests) == 1
    write(ask("a"), ask("b", answer="Other."))
    anew = await cache.warm(pipeline, path, tenant="acme", refresh=True)
    assert (anew.fresh, anew.asked, anew.kept) == (0, 1, 1)
    assert len(transport.requests) == 2
    assert (await pipeline.run(chat("b"))).text == "Other."


async def test_a_line_that_fails_is_named_and_the_others_go_on(write: Write) -> None:
    """The number is the line's in the file, empty lines counted; a mark at the start is none."""
    pipeline, cache, transport = stack(answers=[ServerError("Broken.", status=500), "fine"])
    path = write("\ufeff" + json.dumps(ask("a")), "", "{", ask("b"), "  ", ask("c", tenat="x"))
    warmed = await cache.warm(pipeline, path, tenant="acme", concurrency=1)
    assert (warmed.asked, warmed.failed) == (1, 3)
    assert [problem.line for problem in warmed.problems] == [1, 3, 6]
    assert "Broken." in str(warmed.problems[0])
    assert str(warmed.problems[2]).startswith("line 6: it has a field 'tenat'")
    assert not warmed.ok
    assert warmed.stopped is None
    assert warmed.to_dict()["problems"][1]["line"] == 3
    assert len(transport.requests) == 2


async def test_tags_and_ttl_of_a_line_hold(write: Write) -> None:
    """What was warmed can be purged by its tag, and ages by its own time."""
    pipeline, cache, _ = stack(Cache(ttl=10_000, jitter=0))
    path = write(ask("a", tags=["x"]), ask("b", ttl=5), ask("c"))
    await cache.warm(pipeline, path, tenant="acme")
    assert await cache.purge(pipeline, tag="x") == 1
    await anyio.sleep(6)
    found = [(await pipeline.run(chat(text))).head.cached for text in "abc"]
    assert found == [False, False, True]


async def test_embeddings_are_warmed_by_input(write: Write) -> None:
    """A batch in the file serves a batch of one of its texts."""
    pipeline = Pipeline([cache := Cache()], "mock", ports=virtual_ports())
    line = {"model": "e", "input": ["a", "b"]}
    warmed = await cache.warm(pipeline, write(line), tenant="acme")
    assert (warmed.asked, warmed.failed) == (1, 0)
    again = await cache.warm(pipeline, write({**line, "input": ["b"]}), tenant="acme")
    assert again.fresh == 1


# --- what is not asked ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (ask("a", temperature=1), "temperature of 0"),
        ({**ask("a"), "temperature": None}, "temperature of 0"),
        (ask("a", answer="x", temperature=1), "temperature of 0"),
        (ask("a", extra={"store": True}), "leaves something behind"),
        (ask("a", tools=[{"name": "look"}]), "a tool that is none of your own"),
    ],
)
async def test_what_would_not_be_kept_is_not_paid_for(
    write: Write, line: dict[str, Any], words: str
) -> None:
    """It is a problem before anybody is asked, with or without an answer."""
    pipeline, cache, transport = stack()
    warmed = await cache.warm(pipeline, write(line), tenant="acme")
    assert words in str(warmed.problems[0])
    assert transport.requests == []


async def test_a_line_can_say_that_it_is_kept_all_the_same(write: Write) -> None:
    """For programs whose requests say so too, or a cache that keeps all, or its own function."""
    odd = ask("a", temperature=1)
    for cache, line in (
        (Cache(), {**odd, "cache": True}),
        (Cache(when="all"), odd),
        (Cache(when=lambda request: request.model == "m"), odd),
    ):
        pipeline, _, _ = stack(cache)
        assert (await cache.warm(pipeline, write(line), tenant="acme")).asked == 1
    pipeline, cache, transport = stack(Cache(when=lambda request: request.model != "m"))
    warmed = await cache.warm(pipeline, write(ask("a")), tenant="acme")
    assert "`when`" in str(warmed.problems[0])
    assert transport.requests == []


async def test_a_tenant_is_needed(write: Write) -> None:
    """The line's, the run's, or the layer's own for those that name none."""
    pipeline, cache, transport = stack()
    warmed = await cache.warm(pipeline, write(ask("a")))
    assert "'tenant'" in str(warmed.problems[0])
    assert transport.requests == []
    pipeline, cache, _ = stack(Cache(tenant="shared"))
    assert (await cache.warm(pipeline, write(ask("a")))).asked == 1
    assert (await pipeline.run(chat("a").evolve(context=Context()))).head.cached


async def test_what_every_line_would_meet_ends_the_run(write: Write) -> None:
    """A key that is not accepted is found out once, and not ten thousand times."""
    refused = AuthenticationError("The key is not accepted.", status=401)
    pipeline, cache, transport = stack(answers=[refused])
    path = write(*[ask(str(number)) for number in range(200)])
    warmed = await cache.warm(pipeline, path, tenant="acme", concurrency=2)
    assert isinstance(warmed.stopped, AuthenticationError)
    assert len(transport.requests) <= 2
    assert not warmed.ok
    assert "not accepted" in warmed.to_dict()["stopped"]


class Broken:
    """A store that is out."""

    shared = False

    def __getattr__(self, name: str) -> Any:
        async def gone(*_: Any, **__: Any) -> None:
            raise OSError(name)

        return gone

    async def purge(self, **_: Any) -> int:
        """What a store is known by."""
        return 0

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_a_store_that_is_out_ends_the_run(write: Write) -> None:
    """Nothing is paid for that would be forgotten."""
    pipeline, cache, transport = stack(Cache(store=Broken()))
    path = write(*[ask(str(number)) for number in range(200)])
    warmed = await cache.warm(pipeline, path, tenant="acme", concurrency=2)
    assert warmed.stopped is not None
    assert "store" in str(warmed.stopped)
    assert len(transport.requests) <= 2


async def test_a_cache_without_a_proper_key_ends_the_run(write: Write) -> None:
    """Nobody is asked."""
    cache = Cache(packing=Packing(key=Secret.of_value("short")))
    transport = Scripted(["one"], repeat=True)
    pipeline = Pipeline([cache], transport, ports=virtual_ports())
    warmed = await cache.warm(pipeline, write(ask("a"), ask("b")), tenant="acme", concurrency=1)
    assert isinstance(warmed.stopped, ConfigurationError)
    assert (warmed.failed, transport.requests) == (1, [])


async def test_warming_up_is_no_callers_hit_or_miss(write: Write) -> None:
    """The hit rate tells what calls have found; what was kept counts as kept."""
    pipeline, cache, _ = stack()
    inputs = {"model": "m", "input": ["a", "b"], "operation": "embeddings"}
    answer = {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": at, "embedding": [1.0]} for at in range(2)],
    }
    path = write(ask("a"), ask("b", answer="Given."), {**inputs, "answer": answer})
    for _ in range(2):
        assert (await cache.warm(pipeline, path, tenant="acme")).ok
    stats = await cache.stats(pipeline)
    assert (stats.hits, stats.misses, stats.stored, stats.saved_output_tokens) == (0, 0, 4, 0)
    await pipeline.run(chat("a"))
    assert (await cache.stats(pipeline)).hits == 1


# --- the run -------------------------------------------------------------------------------------


async def test_so_many_run_at_once(write: Write) -> None:
    """No more than `concurrency` calls are under way, and not fewer."""
    pipeline, cache, transport = stack(delay=1)
    path = write(*[ask(str(number)) for number in range(150)])
    before = anyio.current_time()
    warmed = await cache.warm(pipeline, path, tenant="acme", concurrency=10)
    assert warmed.asked == len(transport.requests) == 150
    assert anyio.current_time() - before == 15


async def test_progress_is_told(write: Write) -> None:
    """After each line: which, how many by now, and what it has come to."""
    pipeline, cache, _ = stack()
    told: list[WarmProgress] = []
    path = write(ask("a"), ask("b", answer="x"), "{", ask("a"))
    await cache.warm(pipeline, path, tenant="acme", concurrency=1, on_progress=told.append)
    assert [(one.line, one.done, one.came) for one in told] == [
        (1, 1, "asked"),
        (2, 2, "kept"),
        (3, 3, "failed"),
        (4, 4, "fresh"),
    ]
    assert [one.problem is None for one in told] == [True, True, False, True]


async def test_a_cancelled_run_can_be_started_again(write: Write) -> None:
    """What was kept until then is kept, and the rest is done by the next one."""
    pipeline, cache, transport = stack(delay=1)
    path = write(*[ask(str(number)) for number in range(10)])
    with anyio.move_on_after(3.5):
        await cache.warm(pipeline, path, tenant="acme", concurrency=2)
    assert len(transport.requests) == 8
    warmed = await cache.warm(pipeline, path, tenant="acme", concurrency=2)
    assert (warmed.fresh, warmed.asked) == (6, 4)
    assert transport.open_sources == 0


async def test_identical_lines_are_one_call(write: Write) -> None:
    """They share it, and none of them is a problem."""
    pipeline, cache, transport = stack(Cache(), SingleFlight(), delay=1)
    warmed = await cache.warm(pipeline, write(*[ask("a")] * 5), tenant="acme")
    assert len(transport.requests) == 1
    assert (warmed.asked, warmed.fresh, warmed.failed) == (1, 4, 0)


async def test_lines_pass_the_layers_outside(write: Write) -> None:
    """So what stands in the file as it is finds what programs ask through a mask."""
    pipeline, cache, transport = stack(PII(), Cache())
    warmed = await cache.warm(pipeline, write(ask("Mail ada@example.com")), tenant="acme")
    assert warmed.asked == 1
    assert "ada@example.com" not in str(transport.requests)
    assert (await pipeline.run(chat("Mail ada@example.com"))).head.cached


async def test_a_layer_outside_that_answers_itself(write: Write) -> None:
    """What never comes to the cache is not kept, and that is said."""

    @middleware(phase="govern")
    async def closed(request: Request[Any], call_next: Handler) -> Response:
        del call_next
        return await Scripted(["Closed."])(request)

    pipeline, cache, _ = stack(closed)
    warmed = await cache.warm(pipeline, write(ask("a")), tenant="acme")
    assert "a layer outside" in str(warmed.problems[0])


async def test_a_line_that_is_too_long(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a problem of its own, and the lines after it keep their numbers."""
    monkeypatch.setattr(_warm_file, "LARGEST", 200)
    pipeline, cache, _ = stack()
    path = write(ask("x" * 1_000), ask("a"), ask("x" * 300))
    warmed = await cache.warm(pipeline, path, tenant="acme")
    assert (warmed.asked, [problem.line for problem in warmed.problems]) == (1, [1, 3])
    assert "MiB" in str(warmed.problems[0])


async def test_a_report_is_bounded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is none does not fill the memory; all failures are counted."""
    monkeypatch.setattr(_warming, "MOST_PROBLEMS", 3)
    pipeline, cache, _ = stack()
    warmed = await cache.warm(pipeline, write(*["{"] * 10), tenant="acme")
    assert (warmed.failed, len(warmed.problems)) == (10, 3)


async def test_an_empty_file_is_nothing(write: Write) -> None:
    """And nothing is wrong with it."""
    pipeline, cache, _ = stack()
    assert (await cache.warm(pipeline, write(""), tenant="acme")).ok


async def test_mistakes(write: Write, tmp_path: Path) -> None:
    """A file that is not there, a pipeline without a cache, no concurrency, nobody's tenant."""
    pipeline, cache, _ = stack()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await cache.warm(pipeline, tmp_path / "none.jsonl", tenant="acme")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await cache.warm(pipeline, tmp_path, tenant="acme")
    for odd in (0, -1, True, 1.5):
        with pytest.raises(ConfigurationError, match="concurrency"):
            await cache.warm(pipeline, write(""), concurrency=odd)
    for nobody in ("", 5):
        with pytest.raises(MisuseError, match=r"Cache\.warm\(tenant=\.\.\.\) was given"):
            await cache.warm(pipeline, write(""), tenant=nobody)
    with pytest.raises(MisuseError, match="no Cache"):
        await cache.warm(Pipeline([], Scripted(["x"])), write(""))
