"""Why Google's models stop, in Google's words and in ours, and which of that is a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella._errors import PermissionDeniedError
from lamella._usage import Usage
from lamella.transports._wire_json import nonsense, with_usage
from lamella_google._errors import google_in_band_error

if TYPE_CHECKING:
    from lamella_google._candidate import CandidateReader

NOT_FINISHED: Final = "FINISH_REASON_UNSPECIFIED"
REASONS: Final = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "ESCALATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
FAILURES: Final = frozenset(
    {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"}
)
"""The model wrote what Google itself could not use; another try may do better."""


def must_be_good(candidate: CandidateReader, usage: Usage | None, *, provider: str) -> None:
    """Make sure that a candidate that has ended is an answer.

    Raises:
        ProtocolError: If it says nothing.
        LamellaError: If its reason says that Google or the model failed.
    """
    reason = candidate.reason or ""
    if reason == "PUP_LIMITED_DISABLED":
        raise PermissionDeniedError(
            f"{provider} stopped: the account is limited for breaking its policy.",
            provider=provider,
            status=403,
            code=reason.lower(),
            usage=usage,
        )
    if reason in FAILURES and not candidate.answered:
        failure = google_in_band_error({"code": reason.lower()}, provider=provider)
        raise with_usage(failure, usage)
    if candidate.finish_reason() == "stop" and not candidate.spoke:
        raise nonsense("an answer", "no content", provider=provider, usage=usage)
