"""What goes wrong with a simulated provider, and when: windows of time with a rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from lamella._errors import ConfigurationError
from lamella._options import number, one_of, refused, seconds, span, whole
from lamella.testing._simulated_spread import clock_time, span_of

FaultKind: TypeAlias = Literal[
    "outage", "throttle", "error", "slow", "cut", "stall", "refuse", "flap", "no_usage"
]
"""The ways in which a simulated provider goes wrong."""

FAULT_KINDS: Final[tuple[str, ...]] = get_args(FaultKind)


def _after_start(window: Any, option: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int | float) or not value > window.start:
        raise refused(window, option, value, f"an instant after its start, {window.start:g}")


@attrs.frozen
class FaultWindow:
    """One thing that goes wrong between two instants, with a share of the requests.

    Attributes:
        kind: `outage` answers 503; `throttle` 429 with `retry_after`; `error` answers `status`;
            `slow` takes `factor` times as long; `cut` breaks answers off in their middle; `stall`
            falls silent in their middle, for ever; `refuse` accepts no connection; `flap` is well
            for `period` seconds and answers 503 for as many, in turn; `no_usage` leaves the usage
            out of the answer.
        start: Seconds from the beginning of the simulation.
        end: The same; infinite lasts to the end.
        share: The part of the requests that meet it, above 0 to 1.
        status: The HTTP status of `error`, 400 to 599.
        retry_after: Seconds that `throttle` asks callers to wait, and `outage` where it is given.
        factor: How many times as long `slow` takes, 1 or more.
        period: Seconds of `flap`.
    """

    kind: FaultKind = attrs.field(validator=one_of(*FAULT_KINDS))
    start: float = attrs.field(default=0.0, converter=seconds, validator=number(0))
    end: float = attrs.field(default=math.inf, converter=seconds, validator=_after_start)
    share: float = attrs.field(default=1.0, kw_only=True, validator=number(0, 1))
    status: int = attrs.field(default=500, kw_only=True, validator=whole(400, 599))
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    factor: float = attrs.field(default=10.0, kw_only=True, validator=number(1))
    period: float = attrs.field(default=20.0, kw_only=True, converter=seconds, validator=span)

    def __attrs_post_init__(self) -> None:
        """A throttle that names no time would only be an error with another status."""
        if self.retry_after is None and self.kind == "throttle":
            object.__setattr__(self, "retry_after", 10.0)

    def meets(self, at: float, random: Random) -> bool:
        """Whether a request at this instant meets it.

        Args:
            at: Seconds from the beginning of the simulation.
            random: The source of chance; asked only within the window.
        """
        if not self.start <= at < self.end:
            return False
        if self.kind == "flap" and (at - self.start) % (2 * self.period) < self.period:
            return False
        return self.share >= 1.0 or random.random() < self.share

    @classmethod
    def parse(cls, kind: str, text: str) -> tuple[str | None, FaultWindow]:
        """Read a window: `[PROVIDER:][START-END][,OPTION=VALUE...]`.

        `primary:2m-12m`, `60..660`, `share=5%,status=502`, `secondary:2m-,factor=4`. Options are
        the fields of the class with dashes, and `share` may be in per cent.

        Args:
            kind: What goes wrong.
            text: When, and how much.

        Returns:
            The provider that is named, None if none is; and the window.

        Raises:
            ConfigurationError: If it cannot be read.
        """
        provider, colon, rest = text.rpartition(":")
        window, *options = rest.split(",")
        if "=" in window:
            window, options = "", [window, *options]
        values: dict[str, Any] = {}
        try:
            if window.strip():
                values["start"], values["end"] = _window(window)
            for option in options:
                name, equals, value = option.strip().partition("=")
                key = name.strip().replace("-", "_")
                if not equals or key not in _READERS:
                    raise ConfigurationError(
                        f"{option.strip()!r} is no option; known are {_KNOWN}."
                    )
                values[key] = _READERS[key](value.strip())
            found = cls(kind, **values)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        except (ConfigurationError, ValueError) as error:
            raise ConfigurationError(
                f"--{kind.replace('_', '-')} {text!r} cannot be read: {error}",
                hint="Write [PROVIDER:][START-END][,OPTION=VALUE...]: primary:2m-12m,share=50%.",
            ) from None
        return (provider.strip() or None) if colon else None, found

    def __str__(self) -> str:
        words = [f"{self.kind} {clock_time(self.start)}-{clock_time(self.end)}"]
        if self.share < 1:
            words.append(f"{self.share:.3g} of requests")
        if self.kind == "error":
            words.append(f"status {self.status}")
        if self.kind == "slow":
            words.append(f"x{self.factor:g}")
        if self.retry_after is not None:
            words.append(f"retry after {self.retry_after:g} s")
        return ", ".join(words)


def _window(text: str) -> tuple[float, float]:
    separator = ".." if ".." in text else "-"
    start, found, end = text.partition(separator)
    if not found:
        raise ConfigurationError(f"{text!r} is no window of time such as 2m-12m.")
    return span_of(start or "0"), span_of(end) if end.strip() else math.inf


def _share(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "share": _share,
    "status": int,
    "retry_after": span_of,
    "factor": float,
    "period": span_of,
}
_KNOWN: Final = ", ".join(name.replace("_", "-") for name in _READERS)
