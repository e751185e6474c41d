"""Whether there is too much to do: not a queue is the sign of it, but a queue that stays.

A burst makes a queue that drains, and nothing is wrong with that. Too much work makes one that
stands: then nobody who enters has waited less than a while. That is how CoDel tells the two apart
(Nichols and Jacobson, RFC 8289): the smallest waiting time within an interval is above a target.
"""

from __future__ import annotations


class Overload:
    """What the waiting times say. Not thread-safe.

    Args:
        target: Seconds that one may wait without being a sign of overload; above 0. None looks for
            no overload.
        interval: For how many seconds all must have waited longer; above 0.

    Attributes:
        on: Whether there is too much to do.
        calm: Whether nothing has pointed to it of late; then who enters at once changes nothing.
    """

    __slots__ = ("_above_since", "_last_shed", "calm", "interval", "on", "target")

    def __init__(self, target: float | None, interval: float) -> None:
        self.target = target
        self.interval = interval
        self.on = False
        self.calm = True
        self._above_since: float | None = None
        self._last_shed = 0.0

    def entered(self, now: float, waited: float) -> None:
        """Somebody entered who had waited so many seconds."""
        if self.target is None or self.on:
            return
        if waited < self.target:
            self._above_since = None
            self.calm = True
        elif self._above_since is None or now < self._above_since:  # a test's clock began anew
            self._above_since = now
            self.calm = False
        elif now - self._above_since >= self.interval:
            self.on = True
            self._last_shed = now

    def shed(self, now: float) -> None:
        """Somebody had to go: it is not over yet."""
        self._last_shed = now

    def look(self, now: float, waiting: int) -> None:
        """Whether it is over: nobody waits, or for an interval nobody had to go."""
        if not waiting or (self.on and now - self._last_shed >= self.interval):
            self.on = False
            self.calm = True
            self._above_since = None
