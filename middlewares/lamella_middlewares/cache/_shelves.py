"""Which kept answers a command is about: those of a preset's caches, or all in one store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from lamella import BlobStore, ConfigurationError, Packing, Pipeline, Ports, Secret
from lamella._answer_shelves import kept_answers
from lamella._guarded_blobs import GuardedBlobs
from lamella._kept_answers import KeptAnswers
from lamella._named_stores import layer_store
from lamella._ports import default_ports
from lamella._targets import transports_of
from lamella.cli._output import say

LAYERS: Final = ("cache", "semantic_cache")
"""The layers that keep answers, by the first word of their keys."""

PATIENCE: Final = 10.0
"""Seconds that a store may take to answer a command. A call would not wait so long for it."""


@attrs.frozen
class Shelf:
    """The answers that one layer keeps in one namespace.

    Attributes:
        layer: The layer's name.
        namespace: Its namespace.
        store: Where they are.
        kept: The answers.
    """

    layer: str
    namespace: str
    store: BlobStore
    kept: KeptAnswers

    def __str__(self) -> str:
        return f"{self.layer}, namespace {self.namespace!r}" if self.namespace else self.layer


@attrs.frozen
class Place:
    """Where to look, as somebody has said it.

    Attributes:
        preset: A preset that has caches; None with a store.
        config: The file that it is looked for in.
        use: A registered store; None with a preset.
        options: The store's options.
        layer: The only layer to look at; None for all.
        namespace: The only namespace to look at; None for all.
        key: With what the answers of a store are signed.
        encrypted: Whether they are encrypted with it, too.
    """

    preset: str | None = None
    config: str | None = None
    use: str | None = None
    options: dict[str, Any] = attrs.field(factory=dict[str, Any])
    layer: str | None = None
    namespace: str | None = None
    key: Secret | None = None
    encrypted: bool = False


async def shelves_of(place: Place) -> tuple[list[Shelf], Any]:
    """The shelves, and what is to be closed afterwards.

    Raises:
        ConfigurationError: If there is no such preset or store, none in a preset that another
            process could see into, or no cache in it.
    """
    if place.use is None:
        pipeline = Pipeline.preset(place.preset, transport="mock", config=place.config)
        return await _of_pipeline(pipeline, place), pipeline
    store = _store(place)
    try:
        return await _of_store(store, place), store
    except BaseException:
        await store.aclose()
        raise


def wanted(shelf: str, namespace: str, place: Place) -> bool:
    """Whether a command is about the answers of that layer and namespace."""
    return place.layer in {None, shelf} and place.namespace in {None, namespace}


# --- of a preset ---------------------------------------------------------------------------------


async def _of_pipeline(pipeline: Pipeline, place: Place) -> list[Shelf]:
    found: dict[tuple[str, str, int], Shelf] = {}
    caches = list(_caches(pipeline))
    if not caches:
        msg = f"The preset {pipeline.name!r} has no cache."
        hint = "Add one to its layers: { use = 'cache', store = { use = 'sqlite', path = '...' } }."
        raise ConfigurationError(msg, hint=hint)
    hidden = 0
    for name, layer, ports in caches:
        store: Any = ports.stores.blobs if layer.store is None else layer.store
        if not wanted(name, layer.namespace, place):
            continue
        if getattr(store, "instant", False):
            hidden += 1
            continue
        kept = await kept_answers(name, layer.namespace, _patient(store), layer.packing, ports)
        shelf = Shelf(name, layer.namespace, store, kept)
        found.setdefault((name, layer.namespace, id(store)), shelf)
    if hidden and not found:
        raise _in_memory(f"The cache of the preset {pipeline.name!r} keeps")
    if hidden:
        say(f"({hidden} more of its caches keep answers in memory, where nobody can look.)")
    if not found:
        msg = f"No cache of the preset {pipeline.name!r} has that layer and namespace."
        hint = "They are " + ", ".join(f"{name}: {layer.namespace!r}" for name, layer, _ in caches)
        raise ConfigurationError(msg, hint=f"{hint}.")
    return list(found.values())


def must_outlive(pipeline: Pipeline) -> None:
    """Refuse to fill a cache that ends with the process.

    Raises:
        ConfigurationError: If the pipeline has no cache, or none with a store of another kind.
    """
    pairs = zip(pipeline.infos, pipeline.layers, strict=True)
    caches: list[Any] = [layer for info, layer in pairs if info.name == "cache"]
    if not caches:
        msg = f"The preset {pipeline.name!r} has no Cache to warm up."
        raise ConfigurationError(msg, hint="Add one to its layers, with a store.")
    own = pipeline.ports.stores.blobs
    stores = [own if layer.store is None else layer.store for layer in caches]
    if all(getattr(store, "instant", False) for store in stores):
        raise _in_memory(f"The cache of the preset {pipeline.name!r} keeps")


def _in_memory(who: str) -> ConfigurationError:
    msg = f"{who} its answers in the memory of each process, into which no other one can look."
    hint = (
        "Give it a store that lasts: store = { use = 'sqlite', path = '...' }. In the program "
        "itself, ask the layer: cache.stats(pipeline), cache.purge(...), cache.warm(...)."
    )
    return ConfigurationError(msg, hint=hint)


def _caches(pipeline: Pipeline) -> Iterator[tuple[str, Any, Ports]]:
    """The caches of a pipeline and of those inside, each with its name and the ports it uses."""
    ports = pipeline.ports
    left: list[Any] = [pipeline]
    seen: set[int] = set()
    while left:
        one = left.pop(0)
        if not isinstance(one, Pipeline) or id(one) in seen:
            continue
        seen.add(id(one))
        for info, layer in zip(one.infos, one.layers, strict=True):
            if info.name in LAYERS and hasattr(layer, "packing"):
                yield info.name, layer, ports
            left += transports_of(layer).values()
        left.append(one.transport)


# --- of a store ----------------------------------------------------------------------------------


def _store(place: Place) -> Any:
    options = dict(place.options)
    if "path" in options:
        path = Path(options["path"]).expanduser().absolute()
        if not path.is_file():  # a store would make it
            msg = f"There is no file {options['path']!r}."
            raise ConfigurationError(msg, hint="Give the path that the cache's store names.")
        options["path"] = str(path)
    try:
        made = layer_store("--use", "blobs", {"use": place.use, **options})
    except ConfigurationError as error:
        # It is told of a layer's option; here its parts are options of the command line.
        msg = str(error).replace("--use(...): store.", "--").replace("--use(...): store:", "--use:")
        raise ConfigurationError(msg) from None
    if getattr(made, "instant", False):
        raise _in_memory(f"The store {place.use!r} keeps")
    return _patient(made)


def _patient(store: Any) -> GuardedBlobs:
    """The store, for somebody who would rather wait than be told that it does not answer."""
    inner = store.store if isinstance(store, GuardedBlobs) else store
    return GuardedBlobs(inner, timeout=PATIENCE)


async def _of_store(store: BlobStore, place: Place) -> list[Shelf]:
    ports = default_ports()
    if place.key is None and getattr(store, "shared", False):
        msg = "Others can write to this store, so what is kept there is signed."
        raise ConfigurationError(msg, hint="Give the key of the caches: --key env:CACHE_KEY.")
    packing = Packing(key=place.key, encrypt=place.encrypted)
    found: list[Shelf] = []
    for layer in LAYERS:
        for namespace in sorted(await _namespaces(store, layer)):
            if wanted(layer, namespace, place):
                kept = await kept_answers(layer, namespace, store, packing, ports)
                found.append(Shelf(layer, namespace, store, kept))
    return found


async def _namespaces(store: BlobStore, layer: str) -> set[str]:
    """The namespaces that a layer has answers in."""
    found: set[str] = set()
    cursor = ""
    while True:
        page = await store.entries(prefix=f"{layer}:", cursor=cursor)
        for entry in page.entries:
            namespace = namespace_of(entry.key, layer)
            if namespace is not None:
                found.add(namespace)
        cursor = page.cursor
        if not cursor:
            return found


def namespace_of(key: str, layer: str) -> str | None:
    """The namespace in a key `LAYER:NAMESPACE:TENANT:FORM:KEY`; None if it is none like that."""
    pieces = key.removeprefix(f"{layer}:").split(":")
    return pieces[0].replace("%3A", ":").replace("%25", "%") if len(pieces) == 4 else None
