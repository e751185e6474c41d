"""What is wrong with a configuration, collected so that all of it is reported at once.

A mistake says where it stands (a file or a call, and the key path in it), what was found there and
what was expected. One that stands where a secret might is reported without its value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn, cast

import attrs

from lamella._errors import ConfigurationError, PluginError, SecretError, UnknownNameError

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_SECRET: Final = re.compile(r"key|token|secret|password|credential|authorization", re.IGNORECASE)
_SHOWN: Final = 80
_ABSENT: Final = object()
_KINDS: Final = (UnknownNameError, PluginError, SecretError)

Step = str | int
"""One step of a key path: the key of a table, or the index of a list."""


@attrs.frozen
class Place:
    """Where something was written.

    Attributes:
        source: A file, a call, or a distribution.
        path: The keys and indexes that lead to it; empty for the whole.
    """

    source: str
    path: tuple[Step, ...] = ()

    def at(self, *steps: Step) -> Place:
        """A place inside this one."""
        return Place(self.source, (*self.path, *steps))

    def __str__(self) -> str:
        return f"{self.source}: {dotted(self.path)}" if self.path else self.source


def dotted(path: Iterable[Step]) -> str:
    """A key path as TOML writes it, with indexes in brackets: `presets.production.layers[1]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f"{'.' if text else ''}{step if _BARE.match(step) else repr(step)}"
    return text


def is_secret(name: object) -> bool:
    """Whether what goes by that name may be a key, by the name alone."""
    return isinstance(name, str) and _SECRET.search(name) is not None


def holds_secret(value: object) -> bool:
    """Whether there may be a key anywhere in a value, by the names in it."""
    if isinstance(value, Mapping):
        table = cast("Mapping[object, object]", value)
        return any(is_secret(name) or holds_secret(inner) for name, inner in table.items())
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(holds_secret, cast("Collection[object]", value)))
    return False


@attrs.frozen
class Finding:
    """One mistake, at a path that is still relative to whatever is being read.

    Attributes:
        path: Where, from there.
        text: What was expected if a value is given, otherwise the whole sentence.
        value: What was found instead.
        error: The error that it came from, whose type tells kinds of mistakes apart.
    """

    path: tuple[Step, ...]
    text: str
    value: Any = _ABSENT
    error: Exception | None = None

    def under(self, *steps: Step) -> Finding:
        """The same mistake, seen from further out."""
        return attrs.evolve(self, path=(*steps, *self.path))

    def sentence(self, path: Iterable[Step]) -> str:
        """What is wrong, without the place."""
        if self.value is _ABSENT:
            return self.text
        names = [step for step in path if isinstance(step, str)]
        if any(map(is_secret, names[-1:])) or holds_secret(self.value):
            return f"got a value that is not shown, expected {self.text}"
        shown = repr(self.value)
        return f"got {shown[:_SHOWN] + '…' if len(shown) > _SHOWN else shown}, expected {self.text}"


class Misfit(ConfigurationError):
    """Raised when a value does not have the shape that is needed.

    Whoever reads a file or a call adds the findings to those of the rest.
    """

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        lines = [f"{Place('', finding.path)}" for finding in self.findings]
        sentences = [finding.sentence(finding.path) for finding in self.findings]
        pairs = zip(lines, sentences, strict=True)
        super().__init__("\n".join(f"{line}: {what}".lstrip(": ") for line, what in pairs))

    def under(self, *steps: Step) -> Iterator[Finding]:
        """Its mistakes, seen from further out."""
        return (finding.under(*steps) for finding in self.findings)


@attrs.define
class Mistakes:
    """All that is wrong with what is being read, from however many files."""

    _lines: dict[str, Exception | None] = attrs.field(factory=dict[str, Exception | None])

    def add(self, place: Place, *findings: Finding) -> None:
        """Write mistakes down, once each: a base is read with every preset that extends it."""
        for finding in findings:
            found = place.at(*finding.path)
            self._lines.setdefault(f"{found}: {finding.sentence(found.path)}", finding.error)

    def raise_any(self) -> None:
        """Raise if anything was written down.

        Raises:
            ConfigurationError: With every mistake, one a line. Mistakes that are all of one kind
                raise that kind: `UnknownNameError`, `PluginError`, `SecretError`.
        """
        if self._lines:
            _raise(self._lines)


def _raise(lines: dict[str, Exception | None]) -> NoReturn:
    errors = list(lines.values())
    kinds = {type(error) if isinstance(error, _KINDS) else None for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else None
    cause = next((error for error in errors if error is not None), None)
    raise (kind or ConfigurationError)("\n".join(lines)) from cause
