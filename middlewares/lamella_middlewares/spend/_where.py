"""Which records of spend a command is about, as options of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
from cyclopts import Parameter

from lamella import ConfigurationError, Pipeline, SpendQuery, SpendStore
from lamella._named_stores import layer_store
from lamella._targets import transports_of
from lamella.cli._errors import UsageError
from lamella.cli._stack import Stack
from lamella_middlewares.spend._middleware import DEFAULT_PATH
from lamella_middlewares.spend._times import instant_of, local_zone

_IN_MEMORY: Final = "MemorySpend"


@attrs.frozen
class Place:
    """Where records are kept.

    Attributes:
        store: The store.
        name: What it is called.
        owner: What is to be closed afterwards.
    """

    store: SpendStore
    name: str
    owner: Any


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Source:
    """Where the records of a command are, and whose the records and days are.

    Attributes:
        where: Only what has this, as NAME=VALUE: user=u-1, model=gpt-4o-mini, tag:team=search.
            May be given again.
        timezone: In whose days, such as Europe/Berlin. Without it this machine's.
        from_: The SQLite file. Without it that of the preset, or else spend.db here.
        preset: The preset whose Spend is meant. Without it LAMELLA_ENV names it.
        config: The file with presets. Without it LAMELLA_CONFIG names it, or else it is
            lamella.toml here.
    """

    where: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = ()
    timezone: str | None = None
    from_: Annotated[str | None, Parameter(name="--from")] = None
    preset: Annotated[str | None, Parameter(alias="-p")] = None
    config: Annotated[str | None, Parameter(alias="-c")] = None

    @property
    def zone(self) -> str:
        """In whose days.

        Raises:
            ConfigurationError: If there is no such time zone.
        """
        return SpendQuery(timezone=self.timezone or local_zone()).timezone

    @property
    def asked(self) -> dict[str, str | None]:
        """What a record has to have.

        Raises:
            UsageError: If that is not said as NAME=VALUE, or twice for a name.
        """
        asked: dict[str, str | None] = {}
        for text in self.where:
            name, value = _pair(text)
            if name in asked:
                msg = f"--where says twice what {name} is to be, and no attempt has two."
                raise UsageError(msg, hint="Ask once for each of them.")
            asked[name] = value
        return asked

    def place(self) -> Place:
        """Where the records are.

        Raises:
            ConfigurationError: If there are none, or none that another process could see.
        """
        return place_of(self.from_, self.preset, self.config)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Where(Source):
    """Which records a command is about.

    Attributes:
        since: From this instant on: 2026-11-01, 7d, 12h, today, yesterday, week, month.
        until: Before this instant; what ended at it or later is not counted.
    """

    since: str | None = None
    until: str | None = None

    def query(self, by: tuple[str, ...] = ()) -> SpendQuery:
        """What is asked of the store.

        Raises:
            ConfigurationError: If it cannot be meant.
        """
        zone = self.zone
        since = None if self.since is None else instant_of("--since", self.since, zone)
        until = None if self.until is None else instant_of("--until", self.until, zone)
        if since is not None and until is not None and since >= until:
            msg = f"--until {self.until!r} is not after --since {self.since!r}: nothing is between."
            raise UsageError(msg, hint="--until is the first instant that is not counted.")
        return SpendQuery(since=since, until=until, where=self.asked, by=by, timezone=zone)


HERE: Final = Source()
ALL: Final = Where()


def _pair(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not equals:
        msg = f"--where {text!r} does not say what is to be equal."
        raise UsageError(msg, hint="Write NAME=VALUE, or NAME= for those that have none.")
    return name, value or None


def place_of(path: str | None, preset: str | None, config: str | None) -> Place:
    """See `Where.place`."""
    if path is not None:
        if preset is not None or config is not None:
            msg = "A preset names its store itself, so it does not go with --from."
            raise UsageError(msg, hint="Give the one or the other.")
        return _file(path)
    stack = Stack(preset=preset, config=config)
    if preset is None and config is None and stack.embedded:
        return _file(None)  # nobody has named any preset
    pipeline = Pipeline.preset(stack.name, transport="mock", config=config)
    stores = {id(layer.kept_in): layer.kept_in for layer in _layers(pipeline)}
    if not stores and preset is None and config is None:
        return _file(None)
    if len(stores) != 1:
        many = "has no Spend" if not stores else "keeps spend in several places"
        msg = f"The preset {stack.name!r} {many}."
        raise ConfigurationError(msg, hint="Name the file with --from, or add a Spend to it.")
    (store,) = stores.values()
    if type(store).__name__ == _IN_MEMORY:
        msg = f"The Spend of the preset {stack.name!r} keeps its records in memory."
        hint = "Nobody else can look into a process. Give it a path: { use = 'spend', path = ... }."
        raise ConfigurationError(msg, hint=hint)
    path = getattr(store, "path", None)
    if isinstance(path, Path) and not path.is_file():
        msg = f"There is no file {str(path)!r}, to which the preset {stack.name!r} writes."
        raise ConfigurationError(msg, hint="It is made with the first call of that preset.")
    where = f", {path}" if isinstance(path, Path) else ""
    return Place(store, f"preset {stack.name!r}{where}", pipeline)


def _file(given: str | None) -> Place:
    path = Path(given or DEFAULT_PATH).expanduser()
    if path.is_dir():
        msg = f"{str(path)!r} is a directory, and records are in a file."
        raise ConfigurationError(msg, hint=f"Add its name to it, such as {path / DEFAULT_PATH}.")
    if not path.is_file():  # a store would make it
        msg = f"There is no file {str(path)!r}."
        hint = "Give its path with --from, or a preset that has a Spend with --preset."
        if given is None:
            msg = f"There is no {DEFAULT_PATH} here, and no preset with a Spend is named."
            hint += " Nothing is written down without Spend(): put one into the pipeline."
        raise ConfigurationError(msg, hint=hint)
    store = layer_store("--from", "spend", {"use": "sqlite_spend", "path": str(path)})
    return Place(store, str(path), store)


def _layers(pipeline: Pipeline) -> Iterator[Any]:
    """The layers named spend, of a pipeline and of those inside."""
    left: list[Any] = [pipeline]
    seen: set[int] = set()
    while left:
        one = left.pop(0)
        if not isinstance(one, Pipeline) or id(one) in seen:
            continue
        seen.add(id(one))
        for layer in one.layers:
            if hasattr(layer, "kept_in"):
                yield layer
            left += transports_of(layer).values()
        left.append(one.transport)
