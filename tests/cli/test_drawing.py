"""The drawing of a call, from what its trace says."""

from __future__ import annotations

from inline_snapshot import snapshot

from lamella import Money, Outcome, RateLimitError, Span, Trace


class Hands:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_retried_stream_is_drawn_with_its_waits() -> None:
    """Layers nest, wire layers stand inside their attempt, waits and notes where they happened.

    What streams is drawn thinner after its first event.
    """
    hands = Hands()
    trace = Trace("0123456789abcdef", monotonic=hands, wall=0.0)
    hands.now = 0.1
    first = trace.open_attempt("", "openai", "m")
    hands.now = 0.3
    first.close(Outcome.FAILED, RateLimitError("slow down", status=429))
    trace.spans.append(Span("cost", 2, 0.11, 0.29, "rate_limit", attempt=0))
    trace.note("retry", "retry.wait", seconds=1.0, reason="throttle", code=None)
    hands.now = 1.3
    second = trace.open_attempt("/try2", "openai", "m")
    hands.now = 1.5
    second.saw_event()
    second.committed = True
    trace.spans += [
        Span("cost", 2, 1.31, 1.5, attempt=1),
        Span("retry", 1, 0.05, 1.5),
        Span("log", 0, 0.0, 1.5),
    ]
    hands.now = 1.6
    trace.note("guard", "guard.masked", count=2)
    hands.now = 2.0
    second.cost = Money.of(2)
    second.close(Outcome.COMPLETE, None)
    trace.finish(Outcome.COMPLETE)
    assert trace.draw() == snapshot("""\
call 01234567  complete  2.00 s  $2, and attempts at an unknown price
  log                 ==================------   2.00 s
    retry             ==================------   1.95 s
      -> openai        ===                     200.0 ms  failed, 429, RateLimitError
        cost           ==                      180.0 ms  raised rate_limit
      wait               .............           1.00 s  reason=throttle
      -> openai /try2                ===------ 700.0 ms  complete, first event after 200.0 ms, $2
        cost                         ===------ 690.0 ms
  @ guard.masked                                @1.60 s  count=2\
""")


def test_a_call_without_times_is_drawn_too() -> None:
    """Only attempts and notes are known of a call that was not timed, or is still under way."""
    hands = Hands()
    trace = Trace("0123456789abcdef", monotonic=hands, wall=0.0)
    assert trace.draw() == snapshot("call 01234567  under way  0 us  $0")
    trace.open_attempt("/hedge1", "groq", None)
    hands.now = 0.5
    assert trace.draw() == snapshot("""\
call 01234567  under way  500.0 ms
  -> groq /hedge1 ======================== 500.0 ms  under way\
""")


def test_the_names_of_deep_stacks_stay_legible() -> None:
    """However many layers, each line says which it is."""
    for layers in (5, 26, 100):
        trace = Trace("c", monotonic=Hands(), wall=0.0)
        for depth in range(layers):
            trace.spans.append(Span(f"the layer {depth}", depth, 0.0, 1.0))
        lines = trace.draw().splitlines()[1:]
        assert [line.split("=")[0].strip().split("  ")[0] for line in lines] == [
            f"the layer {depth}" for depth in range(layers)
        ]
