"""PII: where it stands among other layers, and what is refused because it would leak."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from masking import EMAIL, KEY, TOKEN, ask, echo, pii, sent, stack

from lamella import ChatRequest, Context, OrderError, Pipeline, Secret, middleware
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.log import Log
from lamella_middlewares.pii import PII
from lamella_middlewares.retry import Retry
from lamella_middlewares.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


def named(name: str) -> Any:
    """A layer of that name."""

    @middleware(phase="shape", name=name)
    async def layer(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return layer


INSIDE = ("cache", "semantic_cache", "single_flight", "summarise", "trim", "guard")
OUTSIDE = ("tools", "template", "structured", "retrieval")


@pytest.mark.parametrize("name", INSIDE)
def test_what_keeps_or_sends_texts_stands_inside(name: str) -> None:
    """Outside it would keep, compare or send what has not been masked."""
    with pytest.raises(OrderError, match=f"'{name}' is outside 'pii': .*Put 'pii' before '{name}'"):
        Pipeline([named(name), PII()])
    assert Pipeline([PII(), named(name)]).doubts == ()


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_makes_requests_stands_outside(name: str) -> None:
    """Inside, tool results and variables would reach the provider as they are."""
    with pytest.raises(OrderError, match=f"'pii' is outside '{name}': .*unmasked"):
        Pipeline([PII(), named(name)])
    assert [info.name for info in Pipeline([named(name), PII()]).infos] == [name, "pii"]


def test_arranged_by_itself() -> None:
    """`arrange` puts it between what limits and what keeps."""
    pipeline = Pipeline.arrange([Retry(), SingleFlight(), PII(), Log(sink=print)])
    assert [info.name for info in pipeline.infos] == ["log", "pii", "single_flight", "retry"]
    assert pipeline.doubts == ()


def test_explained() -> None:
    """The stack says what the layer may do, and shows neither the key nor what is allowed."""
    layer = PII(["email"], key=Secret.of_value(KEY), allow=[EMAIL], strategies={"email": "mask"})
    drawn = str(Pipeline([layer]).explain())
    assert "may: changes events, changes requests" in drawn
    assert "strategies={'email': 'mask'}" in drawn
    assert KEY not in drawn + repr(layer)
    assert EMAIL not in drawn + repr(layer)


# --- with others -------------------------------------------------------------------------------


async def test_tries_hedges_and_other_targets_get_the_masked_request() -> None:
    """Whatever stands inside sends what was masked once, and the same each time."""
    from lamella import ServerError

    transport = Scripted([ServerError("no", status=500), ServerError("no", status=500), echo])
    layers: list[Any] = [pii(), Fallback(["other"]), Hedge(), Retry(attempts=2)]
    pipeline = Pipeline(layers, transport, ports=virtual_ports())
    response = await ask(pipeline, f"I am {EMAIL}")
    assert response.text == f"You said: I am {EMAIL}"
    assert len({repr(vars(request)["messages"]) for request in transport.requests}) == 1
    assert all(EMAIL not in sent(transport, index) for index in range(3))


async def test_the_same_value_shares_an_answer_within_a_tenant_only() -> None:
    """What shares answers inside sees the same placeholders for a tenant, and others for others."""
    transport = Scripted([echo], repeat=True, delay=1)
    pipeline = Pipeline([pii(), SingleFlight()], transport, ports=virtual_ports())
    texts: dict[str, str] = {}

    async def one(name: str, tenant: str) -> None:
        request = ChatRequest.of(f"I am {EMAIL}", model="m", context=Context(tenant=tenant))
        texts[name] = (await pipeline.run(request)).text

    async with anyio.create_task_group() as group:
        for name, tenant in (("a", "x"), ("b", "x"), ("c", "y")):
            group.start_soon(one, name, tenant)
    assert len(transport.requests) == 2
    assert set(texts.values()) == {f"You said: I am {EMAIL}"}


async def test_a_child_call_of_a_layer_inside_asks_about_masked_text() -> None:
    """What a judge or a summariser inside is asked has placeholders."""
    asked: list[str] = []

    async def judge(request: Any, call_next: Any) -> Any:
        child = request.child(
            ChatRequest.of(f"Is this rude: {request.messages[0].text}"), purpose="judge"
        )
        asked.append((await call_next(child)).text)
        return await call_next(request)

    pipeline = Pipeline([pii(), judge], Scripted([echo], repeat=True), ports=virtual_ports())
    assert (await ask(pipeline, EMAIL)).text == f"You said: {EMAIL}"
    assert TOKEN.search(asked[0])
    assert EMAIL not in asked[0]


async def test_each_turn_is_shown_under_its_branch() -> None:
    """A layer outside that asks several times finds each turn's masked texts."""

    async def twice(request: Any, call_next: Any) -> Any:
        await (await call_next(request.turn(1))).collect()
        return await call_next(request.turn(2))

    _, transport = stack()
    pipeline = Pipeline([twice, pii()], transport, ports=virtual_ports())
    response = await ask(pipeline, EMAIL)
    assert sorted(response.trace.content) == ["/turn1", "/turn2"]
    assert EMAIL not in repr([shown.to_dict() for shown in response.trace.content.values()])


async def test_a_log_with_content_has_masked_content() -> None:
    """What is written down is what was sent, with the answer before it was restored."""
    records: list[Any] = []
    log = Log(sink=records.append, content=True)
    pipeline = Pipeline([log, pii()], Scripted([echo]), ports=virtual_ports())
    await ask(pipeline, f"I am {EMAIL}")
    log.flush()
    assert EMAIL not in repr(records)
    assert "You said: I am ⟦EMAIL_" in repr(records)


def test_other_stacks_have_other_fingerprints() -> None:
    """Caches outside of a pipeline tell apart what masks otherwise."""
    several: list[Any] = [{}, {"strategy": "redact"}, {"direction": "both"}]
    prints = {Pipeline([PII(["email"], **options)]).fingerprint for options in several}
    assert len(prints) == 3
    assert Pipeline([PII()]).fingerprint == Pipeline([PII()]).fingerprint
