"""Which faults meet which request: a `Plan` is asked once for each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from random import Random

from lamella.testing import _fault_text as fault_text
from lamella.testing._faults import Faults


class Plan:
    """The faults of the first request, the second, and so on.

    Examples:
        Two refusals, then all is well:

        >>> plan = Plan([Faults(status=503), Faults(status=503)])
        >>> [str(plan.next() or "ok") for _ in range(3)]
        ['status=503', 'status=503', 'ok']
    """

    __slots__ = ("_draw", "taken")

    def __init__(self, steps: Iterable[Faults | None] = (), then: Faults | None = None) -> None:
        """Make a plan.

        Args:
            steps: the faults of each request in turn; None is a request without any. It may be
                endless.
            then: what every request after the last step meets. None is no faults.
        """
        self._draw: Callable[[], Faults | None] = chain(iter(steps), repeat(then)).__next__
        self.taken = 0
        """How many requests have been given their faults."""

    def next(self) -> Faults | None:
        """Return the faults of the next request; None for no faults. Never runs out."""
        faults = self._draw()
        self.taken += 1
        return faults

    @classmethod
    def weighted(cls, choices: Sequence[tuple[Faults | None, float]], random: Random) -> "Plan":
        """Draw for each request, independently, with the given weights.

        Args:
            choices: pairs of faults (None for no faults) and weight; weights are 0 or more, of any
                sum above 0.
            random: the source of chance; the same seed gives the same plan.

        Raises:
            ValueError: a weight is negative, or none is positive.
        """
        weights = [weight for _, weight in choices]
        if not weights or min(weights) < 0 or sum(weights) <= 0:
            message = (
                f"Plan.weighted: the weights {weights!r} must be 0 or more, at least one above 0"
            )
            raise ValueError(message)
        return cls(_drawn([faults for faults, _ in choices], weights, random))

    @classmethod
    def flapping(cls, probability: float, faults: Faults, random: Random) -> "Plan":
        """Meet each request with these faults at the given probability, and with none otherwise.

        Args:
            probability: from 0 (never) to 1 (always).
            faults: what goes wrong.
            random: the source of chance; the same seed gives the same plan.

        Raises:
            ValueError: the probability lies outside 0 to 1.
        """
        if not 0 <= probability <= 1:
            message = f"Plan.flapping: the probability {probability!r} must lie between 0 and 1"
            raise ValueError(message)
        return cls.weighted([(faults, probability), (None, 1 - probability)], random)

    @classmethod
    def parse(cls, text: str, then: Faults | None = None) -> "Plan":
        """Read a plan whose steps stand between bars: ``status=429; retry-after=1 | ok | delay=9``.

        Each step is a text as `Faults.parse` reads it; ``ok`` is a request without faults.

        Raises:
            ValueError: a step is not the text of faults.
        """
        steps: list[Faults | None] = []
        current: list[str] = []
        for item in fault_text.items(text):
            current.append(item.name if item.value is None else f"{item.name}={item.value}")
            if item.end == "|":
                steps.append(_step(current))
                current = []
        if current:
            steps.append(_step(current))
        return cls(steps, then)


def _step(parts: list[str]) -> Faults | None:
    return None if parts == ["ok"] else Faults.parse("; ".join(parts))


def _drawn(
    faults: list[Faults | None], weights: list[float], random: Random
) -> Iterator[Faults | None]:
    while True:
        yield random.choices(faults, weights)[0]
