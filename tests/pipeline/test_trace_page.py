"""The page of a call: one file that shows what others have said, and runs none of it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import attrs
from example_call import EXAMPLE, example_call
from inline_snapshot import snapshot

from lamella import Attempt, Money, Note, Outcome, TraceRecord, Usage
from lamella._trace import Span
from lamella._trace_page import Extra, page

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</title></style><svg onload=alert(1)>",
    "javascript:alert(1)",
    "]]><!--",
    "\u202ereversed\u2066",
    "\x00\x1b[2J\ud800",
)

CALL = TraceRecord(
    call_id="0123456789abcdef",
    started=1_735_689_600.5,
    seconds=2.0,
    outcome=Outcome.COMPLETE,
    attempts=(
        Attempt(
            0, "", "acme", "m", 0.1, None, 0.3, Outcome.FAILED, cause="RateLimitError", status=429,
            cost=Money(0),
        ),
        Attempt(
            1, "/try2", "acme", "m", 1.3, 1.5, 2.0, Outcome.COMPLETE, committed=True,
            usage=Usage(
                uncached_input=1000, cache_read=200, cache_write={"5m": 30}, text_output=9,
                reasoning_output=4, tool_units={"web_search": 2},
            ),
            cost=Money.of("0.0125"), request_id="req_1", asked_by="retry",
        ),
    ),
    notes=(
        Note("retry", "retry.wait", {"seconds": 1.0, "reason": "throttle"}, 0.3),
        Note("core", "leak", {}, 1.9),
    ),
    spans=(
        Span("cost", 1, 0.11, 0.29, "rate_limit", 0),
        Span("cost", 1, 1.31, 1.5, None, 1),
        Span("retry", 0, 0.05, 1.5),
    ),
)  # fmt: skip


def body_of(text: str) -> ET.Element:
    """The body of a page, which is well-formed markup."""
    return ET.fromstring(text.split("</style></head>")[1].removesuffix("</html>\n"))


def texts(element: ET.Element) -> str:
    """What a person reads of it, cell by cell."""
    rows: list[str] = []
    for part in element.iter():
        if part.tag in {"h1", "h2", "p"}:
            rows.append("".join(part.itertext()))
        elif part.tag == "tr":
            cells = ["".join(cell.itertext()).strip() for cell in part]
            rows.append(" | ".join(cells).strip())
    return "\n".join(rows)


def test_a_call_is_shown_with_all_that_is_known() -> None:
    """When what happened, what each attempt consumed and cost, who asked, whose time it was."""
    assert texts(body_of(CALL.page())) == snapshot("""\
call 01234567  complete  2.00 s  1230 tokens in, 13 out  $0.0125
call | 0123456789abcdef
began | 2025-01-01 00:00:00.500 UTC
outcome | complete
took | 2.00 s
attempts | 2
tokens in | 1,230 (200 cached, 30 written to the cache 5m)
tokens out | 13 (4 reasoning, 2 web_search)
cost | $0.0125
What happened when
what | 0 us500.0 ms1.00 s1.50 s2.00 s | began | took | said
call | @ leak  at 1.90 s |  | 2.00 s | complete
retry | retry, 1.95 sretry, 1.95 s | 50.0 ms | 1.95 s |
-> acme | -> acme, 200.0 ms | 100.0 ms | 200.0 ms | failed, 429, RateLimitError, $0
cost | cost, 180.0 ms | 110.0 ms | 180.0 ms | raised rate_limit
wait | wait, 1.00 s | 300.0 ms | 1.00 s | reason=throttle
-> acme /try2 | -> acme /try2, 700.0 ms-> acme /try2, 700.0 ms | 1.30 s | 700.0 ms | complete, first event after 200.0 ms, $0.0125
cost | cost, 690.0 mscost, 690.0 ms | 1.31 s | 690.0 ms |
layer, attempt, failed, wait, note; pale: the answer streams
Attempts
# | asked by | branch | provider | model | outcome | began | first event | took | tokens in | tokens out | cost | request id
0 |  |  | acme | m | failed 429 RateLimitError | 100.0 ms |  | 200.0 ms |  |  | $0 |
1 | retry | /try2 | acme | m | complete | 1.30 s | 200.0 ms | 700.0 ms | 1,230 (200 cached, 30 written to the cache 5m) | 13 (4 reasoning, 2 web_search) | $0.0125 | req_1
Cost and tokens, by who asked
who asked | attempts | tokens in | tokens out | cost
the caller | 1 | 0 | 0 | $0
retry | 1 | 1,230 (200 cached, 30 written to the cache 5m) | 13 (4 reasoning, 2 web_search) | $0.0125
Time, by layer
layer | passes | had the request for | of that nothing inside had it
retry | 1 | 1.45 s | 1.05 s
cost | 2 | 370.0 ms | 370.0 ms
Notes
at | layer | note | fields
300.0 ms | retry | retry.wait | seconds=1.0  reason=throttle
1.90 s | core | leak |
Times are counted from the beginning of the call. A layer's time ends with the first event of the answer. Tokens with ~ are counted here, not by the provider.\
""")  # noqa: E501 - as it is read


def test_a_page_loads_and_runs_nothing() -> None:
    """Its policy allows its own style alone; there is no script, style or link in an element."""
    text = CALL.page()
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in text
    assert not re.search(r"<script|<link|<img|<iframe|://|url\(|@import", text)
    for element in body_of(text).iter():
        assert not {name for name in element.attrib if name.startswith("on") or name == "style"}
        assert not {"href", "src", "srcdoc"} & set(element.attrib)


def test_what_others_say_is_text() -> None:
    """Names of models, errors, notes and contents cannot become markup, or turn the writing."""
    for payload in HOSTILE:
        hostile = attrs.evolve(
            CALL,
            call_id=payload,
            attempts=tuple(
                attrs.evolve(
                    attempt, provider=payload, model=payload, branch=payload, cause=payload,
                    request_id=payload, asked_by=payload,
                )
                for attempt in CALL.attempts
            ),
            notes=(Note(payload, payload, {payload: payload, "seconds": 1.0}, 0.3),),
            spans=(Span(payload, 0, 0.0, 2.0, payload),),
            content={payload: {"messages": [{"role": "user", "content": payload}]}},
        )  # fmt: skip
        text = page(hostile, [Extra(payload, [(payload, payload)])])
        tags = {element.tag for element in body_of(text).iter()}
        assert tags <= {
            "body", "h1", "h2", "p", "div", "span", "table", "thead", "tbody", "tr", "th", "td",
            "svg", "rect", "title", "details", "summary", "pre",
        }  # fmt: skip
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        assert text.encode()
        assert not re.search("<script|<img|<svg onload", text)


def test_a_page_is_the_same_each_time() -> None:
    """It has no date and no chance of its own, so that pages can be compared."""
    assert CALL.page() == attrs.evolve(CALL).page()


def test_a_call_of_which_little_is_known_has_a_page() -> None:
    """One under way, without attempts or times, or with times beyond all calendars."""
    for call in (
        TraceRecord(call_id="", started=0.0, seconds=0.0),
        TraceRecord(call_id="c", started=1e300, seconds=1e300),
        attrs.evolve(CALL, outcome=None, seconds=0.0),
    ):
        assert texts(body_of(call.page())).startswith("call ")


def test_known_prices_in_two_currencies_are_not_called_unknown() -> None:
    """Each currency's sum is shown, on the page and in the drawing; what is unknown is said."""
    first, second = CALL.attempts
    euros = attrs.evolve(second, cost=Money.of(2, "EUR"))
    dollars = attrs.evolve(second, cost=Money.of(1))
    for attempts, expected in (
        ((euros, dollars), "€2, $1"),
        (
            (euros, dollars, attrs.evolve(second, cost=None)),
            "€2, $1, and attempts at an unknown price",
        ),
        ((attrs.evolve(first, cost=None),), "unknown"),
        ((first,), "$0"),
    ):
        call = attrs.evolve(CALL, attempts=attempts, spans=())
        shown = texts(body_of(call.page())).splitlines()
        assert f"cost | {expected}" in shown
        assert (
            call.draw().splitlines()[0].endswith("" if expected == "unknown" else f"  {expected}")
        )
        asked = next(line for line in shown if line.startswith(("retry | ", "the caller | ")))
        assert asked.endswith(f" | {expected}")


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    """What was there is replaced, with its permissions; nothing else is left in the folder."""
    target = tmp_path / "page.html"
    target.write_text("old")
    target.chmod(0o640)
    (tmp_path / "link.html").symlink_to(target)
    assert CALL.write_page(tmp_path / "link.html") == tmp_path / "link.html"
    assert target.read_text("utf-8") == CALL.page()
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "page.html"]


def test_the_page_in_the_documentation_is_what_is_made_today() -> None:
    """docs/traces.md leads to it; `python tests/support/example_call.py` writes it anew."""
    assert EXAMPLE.read_text("utf-8") == example_call().page()
    assert example_call().draw() in (EXAMPLE.parent / "traces.md").read_text("utf-8")
