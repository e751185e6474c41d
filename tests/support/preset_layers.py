"""Layers, transports and a preset that nobody else has, for tests of presets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import pytest

from lamella import (
    ChatRequest,
    ConfigurationError,
    Handler,
    Pipeline,
    Preset,
    Registry,
    Request,
    middleware,
)
from lamella._registry import using


class Site(Protocol):
    """See conftest.py."""

    folder: Path

    def plugin(self, name: str, source: str, **more: str) -> None: ...
    def registry(self, *allow: str) -> Registry: ...


@attrs.frozen
class _Passing:
    async def __call__(self, request: Request[Any], call_next: Handler) -> Any:
        return await call_next(request)


@middleware(phase="observe", name="look")
@attrs.frozen
class Look(_Passing):
    format: str = "console"


@middleware(phase="attempt", rank=0, name="again")
@attrs.frozen
class Again(_Passing):
    attempts: int = attrs.field(default=3, validator=attrs.validators.ge(1))
    pause: float = 1.0


@middleware(phase="attempt", rank=90, name="bound")
@attrs.frozen
class Bound(_Passing):
    seconds: float


@middleware(phase="wire", name="meter", inside={"again": "attempts that failed would be free"})
@attrs.frozen
class Meter(_Passing):
    pass


@middleware(phase="compose", name="tools")
@attrs.frozen
class Calling(_Passing):
    """A layer whose first option is a list of functions."""

    tools: Sequence[Any] = attrs.field(
        validator=attrs.validators.deep_iterable(attrs.validators.is_callable())
    )
    most: int = 10


@attrs.frozen
class Line:
    """A transport with an option."""

    host: str = "here"

    async def __call__(self, request: ChatRequest) -> Any:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def names(site: Site) -> Any:
    """Four layers, two transports and one preset, and no others; an empty working directory."""
    found = site.registry()
    found.add(
        middlewares={"look": Look, "again": Again, "bound": Bound, "meter": Meter},
        transports={"line": Line, "far": {"use": "line", "host": "far"}},
        presets={
            "base": Preset(
                layers=["look", {"use": "again", "attempts": 2, "pause": 5}, "meter"],
                transport="line",
            )
        },
    )
    with using(found):
        yield found


def write(text: str, name: str = "lamella.toml") -> None:
    """Write a file into the working directory."""
    Path(name).write_text(text)


def layers(pipeline: Pipeline) -> list[Any]:
    """The layers of a pipeline."""
    return list(pipeline.layers)


def said(*arguments: Any, **overrides: Any) -> list[str]:
    """The lines of the error that building a preset raises."""
    with pytest.raises(ConfigurationError) as caught:
        Pipeline.preset(*arguments, **overrides)
    return str(caught.value).splitlines()
