"""What spans and metrics say of an attempt: facts, never words of a prompt or an answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from lamella import LamellaError, Outcome
from lamella_opentelemetry import _conventions as names
from lamella_opentelemetry import _sendable as sendable

if TYPE_CHECKING:
    from lamella import Money, OpenAttempt, Request, Trace, Usage
    from lamella_opentelemetry._conventions import Conventions

NOT_FAILED: Final = frozenset({None, Outcome.COMPLETE, Outcome.CANCELLED, Outcome.LEFT})
"""A caller who stops reading, or is cancelled, has not failed."""


def instant(trace: Trace, at: float) -> int:
    """An instant of a call as OpenTelemetry counts: nanoseconds since 1970.

    Args:
        trace: The call's.
        at: Seconds since it began.
    """
    return int(trace.started * 1e9) + int(at * 1e9)


def provider_of(attempt: OpenAttempt) -> str:
    """Who is asked, in the conventions' words."""
    return names.PROVIDERS.get(attempt.vendor, attempt.vendor)


def error_type(outcome: Outcome | None, error: BaseException | None) -> str | None:
    """The class of what went wrong; None if nothing has."""
    if outcome in NOT_FAILED:
        return None
    return type(error).__name__ if isinstance(error, Exception) else str(outcome)


def opening(attempt: OpenAttempt, request: Request[Any], words: Conventions) -> dict[str, Any]:
    """What is known of an attempt when it begins, which is what samplers see."""
    context = request.context
    found: dict[str, Any] = {
        names.OPERATION: request.operation,
        words.provider: provider_of(attempt),
        "lamella.call_id": context.call_id,
        "lamella.attempt.index": attempt.index,
    }
    if attempt.model is not None:
        found[names.REQUEST_MODEL] = attempt.model
    if context.session is not None:
        found[names.CONVERSATION_ID] = context.session
    if context.branch:
        found["lamella.branch"] = context.branch
    if attempt.asked_by:
        found["lamella.asked_by"] = attempt.asked_by
    if attempt.provider != attempt.vendor:
        found["lamella.target"] = attempt.provider
    if attempt.substitute:
        found["lamella.substitute"] = True
    return sendable.facts(found)


def closing(attempt: OpenAttempt, request: Request[Any], words: Conventions) -> dict[str, Any]:
    """What is known of an attempt once it has ended."""
    found: dict[str, Any] = {"lamella.outcome": str(attempt.outcome)}
    _add_request(found, attempt, request, words)
    if attempt.url is not None:
        address, port = server_of(attempt.url)
        found[names.SERVER_ADDRESS] = address
        found[names.SERVER_PORT] = port
    if attempt.served_model is not None:
        found[names.RESPONSE_MODEL] = attempt.served_model
    if attempt.answer_id is not None:
        found[names.RESPONSE_ID] = attempt.answer_id
    if attempt.request_id is not None:
        found["lamella.request_id"] = attempt.request_id
    if request.operation == "chat":
        if attempt.finish_reasons:
            found[names.RESPONSE_FINISH_REASONS] = attempt.finish_reasons
        elif words.failed_reason is not None:
            found[names.RESPONSE_FINISH_REASONS] = (words.failed_reason,)
    first = first_chunk_of(attempt)
    if first is not None and words.streams:
        found[names.RESPONSE_FIRST_CHUNK] = first
    if attempt.usage is not None:
        add_usage(found, attempt.usage, words)
    if attempt.cost is not None:
        add_cost(found, attempt.cost)
    add_failure(found, attempt.outcome, attempt.error)
    return sendable.facts(found)


def first_chunk_of(attempt: OpenAttempt) -> float | None:
    """Seconds to the first chunk of a streamed answer; None of others."""
    if not attempt.streamed or attempt.first_event is None:
        return None
    return attempt.first_event - attempt.start


def _add_request(
    found: dict[str, Any], attempt: OpenAttempt, request: Request[Any], words: Conventions
) -> None:
    for field, name in names.REQUEST_FIELDS.items():
        value = getattr(request, field, None)
        if value is not None:
            found[name] = value
    asked: Any = request
    if getattr(asked, "n", None) not in {None, 1}:
        found[names.CHOICE_COUNT] = asked.n
    top_k = request.extra.get("top_k")
    if isinstance(top_k, int):
        found[names.TOP_K] = top_k
    if words.streams and attempt.streamed:
        found[names.REQUEST_STREAM] = True
    effort = getattr(asked, "reasoning_effort", None)
    if words.reasoning_level is not None and isinstance(effort, str):
        found[words.reasoning_level] = effort
    shape = getattr(asked, "response_format", None)
    if isinstance(shape, Mapping):
        kind = str(shape.get("type"))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        found[names.OUTPUT_TYPE] = "json" if kind.startswith("json") else "text"
    dimensions = getattr(asked, "dimensions", None)
    if isinstance(dimensions, int):
        found[names.DIMENSIONS] = dimensions


def add_usage(found: dict[str, Any], usage: Usage, words: Conventions) -> None:
    """Add the tokens: totals, and the parts of them that the conventions have names for."""
    found[names.USAGE_INPUT] = usage.input_tokens
    found[names.USAGE_OUTPUT] = usage.output_tokens
    if usage.cache_read and words.cache_read is not None:
        found[words.cache_read] = usage.cache_read
    if usage.cache_write and words.cache_write is not None:
        found[words.cache_write] = sum(usage.cache_write.values())
    if usage.reasoning_output and words.reasoning is not None:
        found[words.reasoning] = usage.reasoning_output
    if words.modalities:
        if usage.audio_input or usage.image_input:
            _add_modalities(found, usage, "input")
        if usage.audio_output or usage.image_output:
            _add_modalities(found, usage, "output")
    if usage.estimated:
        found["lamella.usage.estimated"] = True


def _add_modalities(found: dict[str, Any], usage: Usage, direction: str) -> None:
    for modality, count in modalities(usage, direction).items():
        found[names.USAGE_MODALITY.format(modality=modality, direction=direction)] = count


def modalities(usage: Usage, direction: str) -> dict[str, int]:
    """Tokens by what they stand for; all `unknown` where the provider does not tell them apart."""
    if direction == "input":
        audio, image, total = usage.audio_input, usage.image_input, usage.input_tokens
    else:
        audio, image, total = usage.audio_output, usage.image_output, usage.output_tokens
    if not audio and not image:
        return {"unknown": total}
    parts = {"text": total - audio - image, "audio": audio, "image": image}
    return {modality: count for modality, count in parts.items() if count}


def add_cost(found: dict[str, Any], cost: Money) -> None:
    """Add what it costs: as a number to look at, and exactly."""
    found["lamella.cost"] = cost.nano / 1e9
    found["lamella.cost_nano"] = cost.nano
    found["lamella.currency"] = cost.currency


def add_failure(
    found: dict[str, Any], outcome: Outcome | None, error: BaseException | None
) -> None:
    """Add what went wrong, if something has: its class and codes, never its message."""
    kind = error_type(outcome, error)
    if kind is None:
        return
    found[names.ERROR_TYPE] = kind
    if isinstance(error, LamellaError):
        if error.status is not None:
            found[names.STATUS_CODE] = error.status
        if error.code is not None:
            found["lamella.error.code"] = str(error.code)
        found["lamella.error.phase"] = error.phase
        if error.layer is not None:
            found["lamella.error.layer"] = error.layer


@lru_cache(maxsize=256)
def server_of(url: str) -> tuple[str, int]:
    """The host and the port of an address."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
