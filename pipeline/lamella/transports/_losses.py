"""What of a request an API cannot take and that is left out, or said otherwise: the trace has it.

What would change the meaning of a request is refused instead (`unsupported`). Left out is what only
another provider understands, and what no more than advises: marks for caches, seals, thoughts that
an API does not take back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lamella._context import is_given
from lamella._errors import UnsupportedError
from lamella._nothing import NOTHING
from lamella._parts import JSONObject, Opaque, Reasoning
from lamella._prompt_caching import CACHE_MARK
from lamella._requests import Request

ORIGIN: Final = "provider"
"""In the `extra` of a part that came in an answer: who gave it, and whom it may go back to."""

_OTHERS: Final = "only the provider that made it understands it"


class Losses:
    """Collects what one request loses on its way to an API.

    Args:
        provider: Who is asked: the transport's name.
        origin: How parts that came from this API are marked; None for the provider's name.
        refuse_foreign: Whether what only another provider understands is refused.
        cache_marks: Whether the API takes `CACHE_MARK` as it stands.
    """

    __slots__ = ("_adapted", "_cache_marks", "_found", "_origin", "_provider", "_refuse")

    def __init__(
        self,
        provider: str,
        *,
        origin: str | None = None,
        refuse_foreign: bool = False,
        cache_marks: bool = False,
    ) -> None:
        self._provider = provider
        self._origin = origin or provider
        self._refuse = refuse_foreign
        self._cache_marks = cache_marks
        self._found: dict[tuple[str, str], int] = {}
        self._adapted: dict[tuple[str, str], int] = {}

    @property
    def settings(self) -> tuple[str, str, bool, bool]:
        """What it goes by: two with the same settings leave out the same."""
        return self._provider, self._origin, self._refuse, self._cache_marks

    @property
    def found(self) -> Mapping[tuple[str, str], int]:
        """What has been left out and why, and how often."""
        return self._found

    @property
    def changed(self) -> Mapping[tuple[str, str], int]:
        """What has been said in another way and why, and how often."""
        return self._adapted

    def apart(self) -> Losses:
        """One with the same settings, in which nothing is noted yet."""
        provider, origin, refuse, cache_marks = self.settings
        return Losses(provider, origin=origin, refuse_foreign=refuse, cache_marks=cache_marks)

    def include(self, other: Losses) -> None:
        """Note what another one has noted."""
        for key, count in other.found.items():
            self._found[key] = self._found.get(key, 0) + count
        for key, count in other.changed.items():
            self._adapted[key] = self._adapted.get(key, 0) + count

    def add(self, what: str, why: str) -> None:
        """Note that something is left out.

        Args:
            what: A word for it, `"Reasoning"` or `"image.detail"`; never its content.
            why: A short reason.
        """
        self._found[what, why] = self._found.get((what, why), 0) + 1

    def adapted(self, what: str, why: str) -> None:
        """Note that something is said in another way than it was given.

        Args:
            what: A word for it, `"Tool.parameters: minimum"`; never its content.
            why: A short reason.
        """
        self._adapted[what, why] = self._adapted.get((what, why), 0) + 1

    def foreign(self, what: str) -> None:
        """Note, or refuse, what only another provider understands.

        Raises:
            UnsupportedError: If such things are refused.
        """
        if self._refuse:
            raise UnsupportedError(
                f"{what} in the conversation can only go back to the provider that made it.",
                hint=f"Take it out, or make {self._provider!r} without refuse_foreign.",
                code="unsupported_part",
                provider=self._provider,
            )
        self.add(what, _OTHERS)

    def thought(self, part: Reasoning) -> None:
        """Note a thought that does not go back, or refuse another provider's sealed one.

        Raises:
            UnsupportedError: If such things are refused.
        """
        sealed = part.signature is not None or part.redacted
        if sealed and not self.is_own(part):
            self.foreign("Reasoning")
        else:
            self.add("Reasoning", "this API does not take such thoughts back")

    def is_own(self, part: Opaque | Reasoning) -> bool:
        """Whether a part came from this API. An `Opaque` of unknown origin is nobody else's."""
        if isinstance(part, Opaque):
            return not part.provider or part.provider in {self._provider, self._origin}
        return part.extra.get(ORIGIN) == self._origin

    def own(self, extra: JSONObject, what: str) -> JSONObject:
        """What of a part's `extra` goes out: all to whom it came from, nothing of it to others.

        Args:
            extra: As the part has it.
            what: What the part is called, for the note.

        Raises:
            UnsupportedError: If it is another provider's, and such things are refused.
        """
        if not extra:
            return extra
        origin = extra.get(ORIGIN)
        if origin is not None and origin != self._origin:
            mark = extra.get(CACHE_MARK)
            if extra.keys() - {ORIGIN, CACHE_MARK}:
                self.foreign(f"{what}.extra")
            extra = NOTHING if mark is None else {CACHE_MARK: mark}
        if CACHE_MARK in extra and not self._cache_marks:
            self.add(CACHE_MARK, "this API has no marks for prompt caches")
            return {key: value for key, value in extra.items() if key not in {ORIGIN, CACHE_MARK}}
        if origin is None:
            return extra
        return {key: value for key, value in extra.items() if key != ORIGIN}

    def declare(self, request: Request[Any]) -> None:
        """Write into the call's trace what has been left out or adapted, each kind once."""
        if not (self._found or self._adapted) or not is_given(request.context.trace):
            return
        for name, found in (("left_out", self._found), ("adapted", self._adapted)):
            for (what, why), count in found.items():
                request.context.note(
                    self._provider, f"request.{name}", what=what, why=why, count=count
                )


def marked(extra: Mapping[str, Any], provider: str) -> JSONObject:
    """What an answer brought that only its provider knows, marked with whose it is."""
    return {**extra, ORIGIN: provider} if extra else NOTHING
