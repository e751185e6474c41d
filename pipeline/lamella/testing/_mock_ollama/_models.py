"""The models of a mock of Ollama's server: which there are, and which are in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import isinf

import anyio
import attrs

from lamella._mock_answers import CONTEXT_TOKENS
from lamella._mock_vectors import DIMENSIONS
from lamella.testing._mock_ollama._answers import CREATED_AT
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_replies import CREATED

KEEP_ALIVE = 300.0
"""Seconds for which a model stays in memory where no request says otherwise."""

LOADED = 3
"""How many models there is memory for."""

_SIZE = 1_000_000_000
_FOREVER = timedelta(days=106_751)  # as far as a server's clock counts, 292 years


@attrs.frozen
class _Loaded:
    until: float
    window: int


@attrs.define
class Memory:
    """The models that are loaded, by name, in the time of the event loop."""

    _loaded: dict[str, _Loaded] = attrs.field(init=False, factory=dict[str, _Loaded])
    _start: float | None = attrs.field(init=False, default=None)

    def use(self, model: str, window: int, keep: float | None) -> None:
        """Note that a model has answered.

        Args:
            model: Which.
            window: How many tokens it sees.
            keep: Seconds for which it is to stay; None is the usual time, infinite for ever.
        """
        now = self._now()
        self._loaded.pop(model, None)
        kept = KEEP_ALIVE if keep is None else keep
        if kept > 0:
            self._loaded[model] = _Loaded(now + kept, window)
        while len(self._loaded) > LOADED:
            del self._loaded[next(iter(self._loaded))]

    def drop(self, model: str) -> None:
        """Take a model out of memory."""
        self._loaded.pop(model, None)

    def document(self) -> JSON:
        """What is loaded, what stays longest first."""
        now = self._now()
        for name in [name for name, each in self._loaded.items() if each.until <= now]:
            del self._loaded[name]
        found = sorted(self._loaded.items(), key=lambda pair: -pair[1].until)
        return {"models": [self._row(name, each) for name, each in found]}

    def _row(self, name: str, loaded: _Loaded) -> JSON:
        row = {key: value for key, value in _row(name).items() if key not in _NOT_LOADED}
        created = datetime.fromtimestamp(CREATED, UTC)
        passed = loaded.until - (self._start or 0.0)
        until = created + (_FOREVER if isinf(passed) else timedelta(seconds=passed))
        return {
            **row,
            "expires_at": until.isoformat().replace("+00:00", "Z"),
            "size_vram": _SIZE,
            "context_length": loaded.window,
        }

    def _now(self) -> float:
        now = anyio.current_time()
        if self._start is None:
            self._start = now
        return now


_NOT_LOADED = {"modified_at", "capabilities"}


def tagged(model: str) -> str:
    """A model's name with its tag."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def tags_document(models: Sequence[str]) -> JSON:
    """The list of models."""
    return {"models": [_row(name) for name in models]}


def show_document(model: str) -> JSON:
    """What is to be known of a model."""
    return {
        "license": "None: it is no model, and answers without one.",
        "modelfile": f"FROM {tagged(model)}\n",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": _details(),
        "model_info": {
            "general.architecture": "mock",
            "general.parameter_count": 0,
            "mock.context_length": CONTEXT_TOKENS,
            "mock.embedding_length": DIMENSIONS,
        },
        "capabilities": capabilities(model),
        "modified_at": CREATED_AT,
    }


def capabilities(model: str) -> list[str]:
    """What a model can do, by its name."""
    if "embedding" in model:
        return ["embedding"]
    return ["completion", "vision", "tools", *(["thinking"] if "reasoning" in model else [])]


def is_known(model: str, models: Collection[str] | None) -> bool:
    """Whether there is a model of a name, with its tag or without."""
    return models is None or bool({model, model.removesuffix(":latest")} & set(models))


def _row(model: str) -> JSON:
    name = tagged(model)
    return {
        "name": name,
        "model": name,
        "modified_at": CREATED_AT,
        "size": _SIZE,
        "digest": sha256(name.encode()).hexdigest(),
        "details": _details(),
        "capabilities": capabilities(model),
    }


def _details() -> JSON:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "mock",
        "families": ["mock"],
        "parameter_size": "0B",
        "quantization_level": "F32",
    }
