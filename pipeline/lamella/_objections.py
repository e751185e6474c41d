"""What a class has against the arguments that a file or a call gives it.

It raises for the first one that it refuses, so that the others would be found one by one. A record
is made without side effects: it is tried with few arguments at a time, and each is told what is
wrong with it alone.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella._errors import ConfigurationError
from lamella._mending import words_of
from lamella._mistakes import Finding, Misfit, is_secret

if TYPE_CHECKING:
    from lamella._structuring import Parameters

_MENTIONED: Final = re.compile(r"\b(\w+)=")


def objections(
    factory: Callable[..., Any],
    arguments: Mapping[str, Any],
    known: Parameters,
    error: Exception | None,
) -> list[Finding]:
    """What a record has against its arguments, all of it as far as it can be told apart.

    Args:
        factory: The record's class.
        arguments: What it can be called with, by name.
        known: What it can be called with; all that is required is there.
        error: What it raised for all arguments together; None if it was not asked, because there
            are other mistakes.
    """
    trial = _Trial(factory, arguments, known.required)
    alone = trial.refusal()
    if alone is not None and not trial.healed():
        whole = trial.refusal(*arguments) if error is None else error
        if whole is not None and _alike(whole, alone):
            if error is None and _of_several(alone):
                return []  # it may lack only what could not be read
            return trial.of_required(alone, known.types)
        refusals = trial.of_one()
    else:
        refusals = trial.each()
    findings: list[Finding] = []
    told: list[Exception] = []
    for name, refused in refusals:
        if not any(_alike(refused, other) for other in told):
            told.append(refused)
            findings.extend(objection((name,), refused, arguments))
    if error is not None and not any(_alike(error, other) for other in told):
        findings.extend(objection((), error, arguments))
    return findings


def objection(
    path: tuple[str, ...], error: Exception, arguments: Mapping[str, Any]
) -> list[Finding]:
    """One error as what is wrong at a path; without its words if they may hold a key."""
    if isinstance(error, Misfit):  # it reads options of its own
        return list(error.findings)
    words = words_of(error)
    keys = [value for name, value in arguments.items() if is_secret(name) and _is_value(value)]
    if any(key in words for key in keys):
        # Nor is it the cause of what is raised: a traceback would show it.
        text = f"could not be made: {type(error).__name__}, in words that hold what may be a key"
        return [Finding(path, text)]
    if isinstance(error, ConfigurationError | TypeError | ValueError):
        text = words.partition(": ")[2] or type(error).__name__
    else:
        text = f"could not be made: {words}"
    return [Finding(path, text, error=error)]


@attrs.define
class _Trial:
    """A record that is made with some of its arguments."""

    factory: Callable[..., Any]
    arguments: Mapping[str, Any]
    base: tuple[str, ...]

    def refusal(self, *names: str) -> Exception | None:
        """What is raised if it has these besides its base."""
        try:
            self.factory(**{name: self.arguments[name] for name in {*self.base, *names}})
        except Exception as error:  # noqa: BLE001 - reported by the caller
            return error
        return None

    def rest(self) -> list[str]:
        return [name for name in self.arguments if name not in self.base]

    def healed(self) -> bool:
        """Whether the base can be made with one more, which is then part of it."""
        for name in self.rest():
            if self.refusal(name) is None:
                self.base = (*self.base, name)
                return True
        return False

    def each(self) -> Iterator[tuple[str, Exception]]:
        """What is refused by itself, and why."""
        alone = {name: self.refusal(name) for name in self.rest()}
        for name, refused in alone.items():
            if refused is not None:
                why = self._with_others(name, refused, alone)
                if why is not None:
                    yield name, why

    def of_one(self) -> Iterator[tuple[str, Exception]]:
        """What is refused by itself where the base cannot be made: not for the lack of others."""
        for name in self.rest():
            refused = self.refusal(name)
            if refused is not None and not _of_several(refused):
                yield name, refused

    def _with_others(
        self, name: str, refused: Exception, alone: Mapping[str, Exception | None]
    ) -> Exception | None:
        """Why it is still refused beside each other argument, which may be what it lacked."""
        for other, others in alone.items():
            if other == name:
                continue
            both = self.refusal(name, other)
            if both is None:
                return None
            if not _alike(both, refused) and not _alike(both, others):
                return both
        return refused

    def of_required(self, alone: Exception, options: Collection[str]) -> list[Finding]:
        """What is wrong with those that it cannot be called without, or with none at all."""
        needed = {name: self.arguments[name] for name in self.base}
        mentioned = {name for name in _MENTIONED.findall(str(alone)) if name in options}
        one = len(needed) == 1 and (not mentioned or not mentioned.isdisjoint(needed))
        return objection(tuple(needed) if one else (), alone, needed)


def _alike(one: Exception, other: Exception | None) -> bool:
    return type(one) is type(other) and str(one) == str(other)


def _of_several(error: Exception) -> bool:
    """Whether it was raised where a record looks at its fields together."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == "__attrs_post_init__" for frame, _ in frames)


def _is_value(value: object) -> bool:
    """Whether it may be a key itself, and is no reference to one."""
    from lamella._secrets import mistake_in

    return isinstance(value, str) and bool(value) and mistake_in(value) is not None
