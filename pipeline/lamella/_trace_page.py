"""A call as one HTML page: a waterfall, and tables of what it consumed, cost and noted."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella._drawing import headline, time
from lamella._page_parts import document, pairs, section, table, words
from lamella._spent import cost_words, usage_of
from lamella._trace_forms import plain, text_of
from lamella._trace_time import facts_of, layer_times
from lamella._trace_waterfall import STYLE, waterfall

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lamella._attempts import Attempt
    from lamella._trace import Note
    from lamella._trace_records import TraceRecord
    from lamella._usage import Usage


_FOOT: Final = (
    "<p>Times are counted from the beginning of the call. A layer's time ends with the first event "
    "of the answer. Tokens with ~ are counted here, not by the provider.</p>"
)


@attrs.frozen
class Extra:
    """Something more on a page, which the trace does not know.

    Attributes:
        title: What it is about.
        rows: Names, and what is to be said of each.
    """

    title: str
    rows: Sequence[tuple[str, str]]


def page(record: TraceRecord, extras: Iterable[Extra] = ()) -> str:
    """The whole page.

    Args:
        record: What happened.
        extras: What else is known of the call.
    """
    facts = facts_of(record)
    body = [
        f"<h1>{words(headline(record))}</h1>",
        pairs(_figures(record)),
        waterfall(record),
        table("Attempts", _ATTEMPT, [_attempt(each) for each in facts.attempts]),
        table("Cost and tokens, by who asked", _ASKED, _by_who_asked(facts.attempts)),
        table("Time, by layer", _TIME, _times(record)),
        table("Notes", ("at", "layer", "note", "fields"), [_note(note) for note in facts.notes]),
        *[section(extra.title, pairs(extra.rows)) for extra in extras if extra.rows],
        *_content(record.content),
        _FOOT,
    ]
    return document(f"Call {record.call_id[:8]}", body, STYLE)


def _figures(record: TraceRecord) -> list[tuple[str, str]]:
    found = [
        ("call", record.call_id),
        ("detached from", record.parent_id or ""),
        ("began", _instant(record.started)),
        ("outcome", str(record.outcome or "under way")),
        ("took", time(record.seconds)),
        ("attempts", str(len(record.attempts))),
        ("tokens in", tokens_in(record.usage)),
        ("tokens out", tokens_out(record.usage)),
        ("cost", cost_words(record.attempts) or "unknown"),
    ]
    found += [
        (f"shares {adopted.call.call_id[:8]}", f"since {time(adopted.at)} {adopted.branch}")
        for adopted in record.adopted
    ]
    return [(name, said) for name, said in found if said]


def _instant(seconds: float) -> str:
    try:
        found = dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, OSError, ValueError):
        return f"{seconds:g} s since 1970"
    return found.isoformat(" ", "milliseconds").replace("+00:00", " UTC")


def tokens_in(usage: Usage | None) -> str:
    """The tokens of a request, and what of them was no plain text."""
    if usage is None:
        return ""
    written = usage.cache_write.items()
    parts = [
        (usage.cache_read, "cached"),
        *[(count, f"written to the cache {lifetime}".rstrip()) for lifetime, count in written],
        (usage.audio_input, "audio"),
        (usage.image_input, "image"),
    ]
    return _tokens(usage.input_tokens, parts, estimated=usage.estimated)


def tokens_out(usage: Usage | None) -> str:
    """The tokens of an answer, and what of them was no plain text."""
    if usage is None:
        return ""
    parts = [
        (usage.reasoning_output, "reasoning"),
        (usage.audio_output, "audio"),
        (usage.image_output, "image"),
        *[(count, name) for name, count in usage.tool_units.items()],
    ]
    return _tokens(usage.output_tokens, parts, estimated=usage.estimated)


def _tokens(total: int, parts: Iterable[tuple[int, str]], *, estimated: bool) -> str:
    said = ", ".join([f"{count:,} {name}" for count, name in parts if count])
    return f"{'~' if estimated else ''}{total:,}" + (f" ({said})" if said else "")


_ATTEMPT: Final = (
    "#", "asked by", "branch", "provider", "model", "outcome", "began", "first event", "took",
    "tokens in", "tokens out", "cost", "request id",
)  # fmt: skip


def _attempt(attempt: Attempt) -> Sequence[str]:
    ended = [str(attempt.outcome or "under way"), str(attempt.status or ""), attempt.cause or ""]
    first, took = attempt.time_to_first_event, attempt.duration
    return (
        str(attempt.index),
        attempt.asked_by,
        attempt.branch,
        f"{attempt.provider} (substitute)" if attempt.substitute else attempt.provider,
        attempt.model or "",
        " ".join([word for word in ended if word]),
        time(attempt.start),
        "" if first is None else time(first),
        "" if took is None else time(took),
        tokens_in(attempt.usage),
        tokens_out(attempt.usage),
        "unknown" if attempt.cost is None else str(attempt.cost),
        attempt.request_id or "",
    )


_ASKED: Final = ("who asked", "attempts", "tokens in", "tokens out", "cost")


def _by_who_asked(attempts: Sequence[Attempt]) -> list[Sequence[str]]:
    """What each layer's own attempts came to: the caller's, retries, hedges, judges."""
    groups: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.asked_by, []).append(attempt)
    return [
        (
            name or "the caller",
            str(len(group)),
            tokens_in(usage_of(group)),
            tokens_out(usage_of(group)),
            cost_words(group) or "unknown",
        )
        for name, group in groups.items()
    ]


_TIME: Final = ("layer", "passes", "had the request for", "of that nothing inside had it")


def _times(record: TraceRecord) -> list[Sequence[str]]:
    return [
        (each.layer, str(each.passes), time(each.seconds), time(each.own))
        for each in layer_times(record)
    ]


def _note(note: Note) -> Sequence[str]:
    fields = [f"{key}={text_of(plain(value))}" for key, value in note.fields.items()]
    return (time(note.at), note.layer, note.name, "  ".join(fields))


def _content(content: Mapping[str, Any]) -> list[str]:
    """What a redacting layer lets observers see."""
    return [
        f"<details><summary>Content{words(f' of {branch}' if branch else '')}, as it may be seen"
        f"</summary><pre>{words(_written(shown), lines=True)}</pre></details>"
        for branch, shown in content.items()
    ]


def _written(shown: object) -> str:
    return json.dumps(plain(shown), ensure_ascii=False, indent=2)
