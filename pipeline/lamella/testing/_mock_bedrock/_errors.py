"""Amazon Bedrock's errors: which exception says what, as an answer and in a stream."""

from __future__ import annotations

import re
from typing import Final

import attrs

from lamella._mock_rejections import Rejection
from lamella.testing._http_framing import Reply
from lamella.testing._mock_bedrock._frames import ERROR, EXCEPTIONS
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_replies import plain
from lamella.testing._mock_sse import Frame, json_text

INVALID: Final = "ValidationException"
_ORIGIN: Final = ":http://internal.amazon.com/coral/com.amazon.bedrock/"
_WORD: Final = re.compile(r"[A-Za-z]+(Exception|Failure|Error|Signature)")
_SAID: Final = " This is said by the mock provider."

_BY_CODE: Final = {
    "content_filter": INVALID,
    "context_length_exceeded": INVALID,
    "insufficient_quota": "ServiceQuotaExceededException",
    "overloaded": "ServiceUnavailableException",
    "overloaded_error": "ServiceUnavailableException",
    "rate_limit_error": "ThrottlingException",
    "rate_limit_exceeded": "ThrottlingException",
    "requests": "ThrottlingException",
    "server_error": "InternalServerException",
    "service_unavailable": "ServiceUnavailableException",
}
_BY_STATUS: Final = {
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    405: "UnknownOperationException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    529: "ServiceUnavailableException",
}
_WORDS: Final = {
    INVALID: "The request is malformed.",
    "AccessDeniedException": "You don't have access to the model with the specified model ID.",
    "InternalServerException": "The system encountered an unexpected error.",
    "ModelErrorException": "The model returned an error.",
    "ModelNotReadyException": "Model is not ready for inference. Wait and try again.",
    "ModelStreamErrorException": "The model failed while it was answering.",
    "ModelTimeoutException": "Model has timed out in processing the request. Try again.",
    "ResourceNotFoundException": "There is no such resource.",
    "ServiceQuotaExceededException": "Your request exceeds the service quota for your account.",
    "ServiceUnavailableException": "Bedrock is unable to process your request.",
    "ThrottlingException": "Too many requests, please wait before trying again.",
    "UnrecognizedClientException": "The security token included in the request is invalid.",
}
_SAID_OF_CODE: Final = {
    "content_filter": "Output blocked by content filtering policy",
    "context_length_exceeded": "Input is too long for requested model.",
}
"""What the models behind the API say, and clients tell such errors by."""


def wrong(message: str) -> Rejection:
    """A request that the API refuses.

    Args:
        message: What is wrong with it.
    """
    return Rejection(400, INVALID, message)


@attrs.frozen
class Failure:
    """An error in this API's words.

    Attributes:
        name: Such as `ThrottlingException`.
        message: What it says.
    """

    name: str
    message: str

    @classmethod
    def of(cls, rejection: Rejection) -> Failure:
        """From an error in whatever words."""
        code, status = rejection.code or "", rejection.status
        if _WORD.fullmatch(code) and "_" not in code:
            name = code[0].upper() + code[1:]
        elif code in _BY_CODE:
            name = _BY_CODE[code]
        else:
            usual = "InternalServerException" if status >= 500 else INVALID
            name = _BY_STATUS.get(status, usual)
        if code in _SAID_OF_CODE:
            return cls(name, _SAID_OF_CODE[code])
        words = _WORDS.get(name, "The request cannot be served.")
        return cls(name, rejection.message or words + _SAID)

    @property
    def document(self) -> JSON:
        """The members of the exception."""
        found: JSON = {"message": self.message}
        if self.name == "ModelErrorException":
            found |= {"originalStatusCode": 500, "resourceName": "mock"}
        elif self.name == "ModelStreamErrorException":
            found |= {"originalStatusCode": 500, "originalMessage": self.message}
        return found

    def reply(self, status: int) -> Reply:
        """The answer that says so; its header names the exception."""
        reply = plain(self.document, status)
        kind = ("x-amzn-ErrorType", self.name + _ORIGIN)
        return attrs.evolve(reply, headers=(kind, *reply.headers))

    @property
    def frame(self) -> Frame:
        """The event that says so in a stream; an error without a model where the API has none."""
        name = self.name[0].lower() + self.name[1:]
        if name in EXCEPTIONS:
            return Frame(json_text(self.document), name)
        return Frame(self.message, ERROR + self.name)


def in_band(code: str | None) -> Failure:
    """The error that comes instead of an answer whose status is a success.

    Args:
        code: Which; None is the usual one.
    """
    return Failure.of(Rejection(500, code or "server_error", ""))
