"""Cache: nobody ever reads what was answered to another one."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from caches import ASK, by, stack

from lamella import Finish, MisuseError, TextDelta
from lamella._answer_shelves import kept_answers
from lamella.testing import run_virtual, virtual_ports
from lamella_middlewares.cache import Cache
from lamella_middlewares.cache._keys import key_of

PIECES = ("a", ":", "|", "/", "\0", "%3A", "%", ",", '"', "{", "tenant:", "tag:", "cache:", "é", "")


def twins(count: int, seed: int) -> list[tuple[str, str, str, str]]:
    """Tenant, namespace, model and text, most of which run together to what others run to."""
    chance = Random(seed)
    found: dict[tuple[str, str, str, str], None] = {}
    while len(found) < count:
        whole = "".join(chance.choices(PIECES, k=chance.randint(3, 9)))
        for _ in range(8):
            one, two, three = sorted(chance.choices(range(len(whole) + 1), k=3))
            found[whole[:one], whole[one:two], whole[two:three], whole[three:]] = None
    return list(found)[:count]


def test_no_two_share_an_address() -> None:
    """Of 100,000 that differ only in where one thing ends and the next begins."""
    ports = virtual_ports()
    asked = twins(100_000, seed=46)

    async def addresses() -> set[str]:
        layer = Cache()
        pipeline, _ = stack(cache=layer, ports=ports)
        made = {}
        for _, namespace, _, _ in asked:
            if namespace not in made:
                made[namespace] = await kept_answers("cache", namespace, None, layer.packing, ports)
        found: set[str] = set()
        for tenant, namespace, model, text in asked:
            request = by(ASK.evolve(model=model, messages=text or " "), tenant=tenant)
            key = key_of(request, pipeline.transport, tenant, ())
            found.add(made[namespace].address(tenant, key))
        return found

    texts = {(tenant, space, model, text or " ") for tenant, space, model, text in asked}
    assert len(run_virtual(addresses)) == len(texts) > 95_000


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_reads_its_own(backend: str) -> None:
    """Through the whole pipeline, twice each, into one store."""
    asked = twins(1_000, seed=47)

    async def run() -> int:
        ports = virtual_ports()
        said: list[str] = []
        spaces: dict[str, object] = {}
        hits = 0
        for turn in range(2):
            for number, (tenant, space, model, text) in enumerate(asked):
                if space not in spaces:
                    script = lambda _: [TextDelta(said[-1]), Finish("stop")]  # noqa: E731
                    spaces[space] = stack(script, cache=Cache(namespace=space), ports=ports)[0]
                said.append(repr((tenant, space, model, text or " ")))
                whose = tenant or "-"  # nobody may be empty
                request = by(ASK.evolve(model=model, messages=text or " "), tenant=whose)
                response = await spaces[space].run(request)  # type: ignore[attr-defined]
                assert response.text == said[-1], number
                hits += response.head.cached
                assert not turn or response.head.cached
        return hits

    assert run_virtual(run, backend=backend) >= 1_000


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("tenant", "what"), [("", "empty"), (17, "type int"), (b"a", "type bytes")]
)
def test_what_names_nobody_is_refused(backend: str, tenant: Any, what: str) -> None:
    """A header that was not there, or a number out of a database, is no tenant, shared or not."""

    async def run() -> int:
        refused = 0
        for own in (None, "shared"):
            pipeline, model = stack("never asked", cache=Cache(tenant=own))
            with pytest.raises(MisuseError, match=what):
                await pipeline.run(by(tenant=tenant))
            refused += not model.requests
        return refused

    assert run_virtual(run, backend=backend) == 2


@pytest.mark.parametrize("given", ["", 17, ["a", "b"]])
@pytest.mark.parametrize("name", ["tenant", "tag"])
def test_a_purge_of_nobody_does_not_pretend(name: str, given: Any) -> None:
    """It says so, in place of "0 forgotten"."""

    async def run() -> None:
        layer = Cache()
        pipeline, _ = stack(cache=layer)
        with pytest.raises(MisuseError, match=rf"purge\({name}=\.\.\.\) was given"):
            await layer.purge(pipeline, **{name: given})

    run_virtual(run)
