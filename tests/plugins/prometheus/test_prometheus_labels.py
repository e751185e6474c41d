"""Prometheus: labels are few, clean and nobody's; registries are shared without quarrels."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from scraping import scrape

from lamella import ChatRequest, ConfigurationError, Context, Pipeline
from lamella import registry as plugins
from lamella.testing import Scripted, virtual_ports
from lamella_prometheus import Prometheus, metrics_text
from lamella_prometheus._families import FAMILIES, exposed
from lamella_prometheus._label_values import LabelValues

pytestmark = pytest.mark.anyio


def pipeline(registry: CollectorRegistry, **options: Any) -> Pipeline:
    """A pipeline of one layer whose calls count into the registry."""
    layer = Prometheus(registry=registry, **options)
    return Pipeline([layer], Scripted(["ok"], repeat=True), ports=virtual_ports())


async def test_models_beyond_the_bound_are_others(registry: CollectorRegistry) -> None:
    """Those that were named have a place of their own; each of the others is counted as such."""
    pipe = pipeline(registry, max_values=2, models=["named"])
    for model in ("a", "b", "c", "d", "named", "c", "a"):
        await pipe.run(ChatRequest.of("x", model=model))
    seen = scrape(registry)
    assert seen["lamella_requests_total"] == {
        ("a", "chat", "complete"): 2,
        ("b", "chat", "complete"): 1,
        ("other", "chat", "complete"): 3,
        ("named", "chat", "complete"): 1,
    }
    # Of each of the three calls: its own label, and its attempt's.
    assert seen["lamella_label_overflows_total"] == {("model",): 6}


async def test_values_are_printable_and_short(registry: CollectorRegistry) -> None:
    """A model's name comes with the request, so that anything may stand in it."""
    await pipeline(registry).run(ChatRequest.of("x", model='evil"\n} 1\x00' + "m" * 200))
    text = metrics_text(registry)[0].decode()
    assert "\x00" not in text
    (found,) = scrape(registry)["lamella_requests_total"]
    assert found[0] == 'evil"?} 1?' + "m" * 90


async def test_own_labels_are_the_tenant_and_tags(registry: CollectorRegistry) -> None:
    """What a request does not say is `none`."""
    pipe = pipeline(registry, labels=["tenant", "tag:cost-centre"])
    context = Context(tenant="acme", tags={"cost-centre": "7"}, user="ada", session="s-1")
    await pipe.run(ChatRequest.of("secret words", model="m", context=context))
    await pipe.run(ChatRequest.of("x", model="m"))
    requests = scrape(registry)["lamella_requests_total"]
    assert requests == {
        ("m", "chat", "complete", "7", "acme"): 1,
        ("m", "chat", "complete", "none", "none"): 1,
    }
    text = metrics_text(registry)[0].decode()
    assert not re.search("ada|s-1|secret", text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": ["user"]}, "Spend"),
        ({"labels": "tenant"}, "a list"),
        ({"labels": ["colour"]}, "tag:NAME"),
        ({"labels": ["tag:a-b", "tag:a_b"]}, "tag_a_b"),
        ({"prefix": "9"}, "digits"),
        ({"models": [1]}, "names"),
        ({"max_values": 0}, "1 or more"),
        ({"registry": "default"}, "CollectorRegistry"),
    ],
)
def test_wrong_options_are_refused(
    registry: CollectorRegistry, options: dict[str, Any], said: str
) -> None:
    """The message says what would do."""
    with pytest.raises(ConfigurationError, match=said):
        Prometheus(**{"registry": registry, **options})


def test_one_registry_serves_any_number_of_layers(registry: CollectorRegistry) -> None:
    """Also when threads make them at once; with other options they need another prefix."""
    with ThreadPoolExecutor(8) as threads:
        layers = list(threads.map(lambda _: Prometheus(registry=registry), range(32)))
    assert len({id(layer.page) for layer in layers}) == 1
    with pytest.raises(ConfigurationError, match="other options"):
        Prometheus(registry=registry, max_values=3)
    assert Prometheus(registry=registry, max_values=3, prefix="mine").page is not layers[0].page


def test_names_that_are_taken_are_refused(registry: CollectorRegistry) -> None:
    """Two meanings of one name would be added up."""
    prometheus_client.Counter("lamella_requests", "mine", registry=registry)
    with pytest.raises(ConfigurationError, match="lamella_requests"):
        Prometheus(registry=registry)


def test_a_dropped_registry_takes_its_metrics_along() -> None:
    """Nothing keeps what nobody can scrape."""
    import gc
    import weakref

    made = Prometheus(registry=CollectorRegistry())
    gone = weakref.ref(made.page)
    del made
    gc.collect()
    assert gone() is None


async def test_many_calls_at_once_lose_nothing(registry: CollectorRegistry) -> None:
    """Neither tasks nor threads."""
    pipe = pipeline(registry)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(pipe.run, ChatRequest.of("x", model="m"))
    assert scrape(registry)["lamella_requests_total"] == {("m", "chat", "complete"): 50}
    recorder = Prometheus(registry=registry).page.recorder

    def count(_: int) -> None:
        for _ in range(500):
            recorder.began("chat")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(4)))
    assert scrape(registry)["lamella_in_flight"] == {("chat",): 2000}


def test_names_follow_the_conventions() -> None:
    """Counters end in `_total`, times are in seconds, everything has a help text and few labels."""
    names = [exposed(family, "lamella") for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family, name in zip(FAMILIES, names, strict=True):
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z]", name)
        assert name.endswith("_total") == (family.kind in {"counter", "money"})
        assert (family.kind == "histogram") == name.endswith("_seconds")
        assert family.help.endswith(".")
        assert len(family.labels) <= 5
        assert not {"user", "session", "call_id", "prompt", "le"}.intersection(family.labels)
        assert list(family.buckets) == sorted(family.buckets)


def test_a_place_is_never_taken_back() -> None:
    """Who was there first stays, so that a series never changes its meaning."""
    overflows: list[str] = []
    values = LabelValues(1, {"model": ["known"]}, overflows.append)
    assert [values.of("model", each) for each in ("a", "b", "known", "a", "", None)] == [
        "a", "other", "known", "a", "other", "other",
    ]  # fmt: skip
    assert overflows == ["model"] * 3


def test_it_is_registered_by_name() -> None:
    """A preset names it, and options are what a file can say."""
    made = plugins().get("middlewares", "prometheus")
    assert made is Prometheus
    assert Pipeline(["prometheus"], Scripted(["x"])).infos[0].name == "prometheus"
