"""The error tree. Every error of the library is a `LamellaError` and carries data, not only words.

::

    LamellaError
      x ConfigurationError          a program, preset or file is wrong; raised at construction
        + OrderError                layers stand in an order that leaks data or loses money
        + UnknownNameError          no such layer, transport, preset, model ...
        + PluginError               a distribution could not be loaded, or clashes
        + SecretError               a secret reference names nothing
        + JournalError              a journal of rows cannot be gone on with
      x MisuseError                 an object was used in a way that cannot work
        + NotBegunError             a pipeline called as a handler outside any call
        + StillOpenError            a complete answer was asked of an open response
        + BusyError                 two tasks waited for one response, or spoke in one conversation
        + CallEndedError            an attempt was made on a call that has ended
      x RefusedError                refused here, before the network
        + UnsupportedError          the model or transport cannot do this
        + AttemptLimitError         the bound on attempts of one model turn is reached
        + LimitedError              a limit of this process or fleet is reached
        + BudgetExceededError       the money, tokens or requests that somebody has are used up
        + CircuitOpenError          the target has failed lately and is left alone
        + NoTargetError             no target can take the request
        + CacheMissError            only a kept answer was wanted, and there is none
        + StoreUnavailableError     what counts for the fleet cannot be reached
        + BlockedError              a guard does not let a request or an answer pass
        + ApprovalRequired          somebody has to agree first
        + ToolLimitError            a loop of tools has reached one of its limits
        + InspectionError           what inspects texts has failed, and that means no
        + AuditError                it cannot be written down, and that means no
        + SummariseError            a conversation is too long, and there is no summary of it
        + TemplateError             a prompt template cannot become messages
        + RowError                  a row of many is no request, or has another's id
        + MapStoppedError           many rows were not all begun: no further one would have passed
      x TargetsFailedError          every target has failed; also of the first one's class
      x CredentialsExhaustedError   no credential of a pool is accepted any more
      x UnpricedError               something that was used has no price
      x ProviderError               the provider answered with an error
        + InvalidRequestError       400, 413, 415, 422
          - ContextLengthError
          - ContentFilteredError
        + AuthenticationError       401
        + PermissionDeniedError     403
        + NotFoundError             404
        + ConflictError             409
        + RateLimitError            429
        + QuotaError                402, and 429 `insufficient_quota`
        + OverloadedError           503, 529
        + ServerError               500, 502, 504 and other 5xx
      x NetworkError                bytes did not travel
        + ConnectError              never connected: nothing was sent
          - CertificateError        the peer's certificate was not accepted
        + ConnectionLostError       connected, then lost
      x TimedOutError
        + ConnectTimeout
        + WriteTimeout
        + FirstEventTimeout
        + IdleTimeout
        + AttemptTimeout
        + DeadlineExceeded
      x ProtocolError               the answer's bytes make no sense
        + ResponseTooLargeError
      x StreamTruncated             the answer stopped without its terminal signal
      x StructureError              the answer is not the value that was asked for
      x ClosedError                 the pipeline, transport or response was closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack, cast

from lamella._nothing import NOTHING
from lamella._outcomes import ErrorPhase, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamella._answer import Answer
    from lamella._attempts import Attempt
    from lamella._money import Money
    from lamella._parts import ToolCall
    from lamella._typed_problems import Problem
    from lamella._usage import Usage


class ErrorData(TypedDict, total=False):
    """What an error carries besides its message; see `LamellaError` for each."""

    retryable: bool
    elsewhere: bool
    committed: bool
    phase: ErrorPhase
    status: int | None
    code: str | None
    retry_after: float | None
    outcome: Outcome
    partial: Answer | None
    usage: Usage | None
    attempts: tuple[Attempt, ...]
    layer: str | None
    hint: str | None
    should_retry: bool | None
    provider: str | None
    request_id: str | None


E = TypeVar("E", bound=BaseException)


def copy_of(error: E) -> E:
    """The same error as a new object; its traceback and cause are kept.

    It is made as its built-in class makes it, for the constructors of others may want anything.
    """
    kind = type(error)
    base = cast("Any", next(one for one in kind.__mro__ if one.__module__ == "builtins"))
    args = base.__reduce__(error)[1]  # OSError and others have more than their `args`
    new: E = base.__new__(kind, *args)
    base.__init__(new, *args)
    new.args = error.args
    fields = new.__dict__
    fields.update(error.__dict__)
    if "__notes__" in fields:
        fields["__notes__"] = list(fields["__notes__"])
    new.__cause__ = error.__cause__
    new.__suppress_context__ = True
    return new.with_traceback(error.__traceback__)


class LamellaError(Exception):
    """The root of the tree.

    Errors are values: nobody changes one after it was raised, and no two receivers get the same
    object. `copy` makes a changed one.

    Attributes:
        message: What happened, without prompt text, personal data or keys.
        retryable: Whether this *kind* of error may pass if tried again. Where it is raised says
            whether it may be retried: never once the answer is committed.
        committed: Whether the caller has already been given part of the answer.
        phase: Where it arose.
        status: The HTTP status, or the one that an in-band error maps to. None without one.
        code: The provider's own word for it.
        retry_after: Seconds after which another try makes sense; None if nobody said.
        outcome: How the attempt ended.
        partial: What had been let through at this level; None before the first event.
        usage: Tokens known to be spent on it.
        attempts: Every attempt of the call, set where the error leaves the outermost pipeline.
        layer: The layer that raised it; None for transports.
        hint: What to do about it.
        should_retry: The provider's explicit word (`x-should-retry`); None if it said nothing.
        provider: The provider or transport it came from.
        request_id: The provider's id of the request, for its support.
    """

    retryable: bool = False
    elsewhere: bool = False
    committed: bool = False
    phase: ErrorPhase = "local"
    status: int | None = None
    code: str | None = None
    retry_after: float | None = None
    outcome: Outcome = Outcome.FAILED
    partial: Answer | None = None
    usage: Usage | None = None
    attempts: tuple[Attempt, ...] = ()
    layer: str | None = None
    hint: str | None = None
    should_retry: bool | None = None
    provider: str | None = None
    request_id: str | None = None

    def __init__(self, message: str = "", /, **data: Unpack[ErrorData]) -> None:
        super().__init__(message)
        self.message = message
        self.__dict__.update(data)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def copy(self, **changes: Unpack[ErrorData]) -> Self:
        """The same error as a new object, with `changes`; its traceback and cause are kept."""
        new = copy_of(self)
        new.__dict__.update(changes)
        return new


class ConfigurationError(LamellaError):
    """Raised at construction: a program, a preset or a file is wrong."""

    outcome = Outcome.NOT_SENT


class OrderError(ConfigurationError):
    """Raised when layers stand in an order that would leak data or lose money."""


class UnknownNameError(ConfigurationError):
    """Raised when a name stands for no known layer, transport, preset, store or model."""


class PluginError(ConfigurationError):
    """Raised when a distribution's plugin cannot be loaded, or claims a name that is taken."""


class SecretError(ConfigurationError):
    """Raised when a secret reference cannot be resolved. The secret itself is never shown."""


class MisuseError(LamellaError):
    """Raised when an object is used in a way that cannot work."""

    outcome = Outcome.NOT_SENT


class NotBegunError(MisuseError):
    """Raised when a pipeline is called as a handler with a request that no call has begun."""


class StillOpenError(MisuseError):
    """Raised when a complete answer is asked of a response that is still open."""


class BusyError(MisuseError):
    """Raised when a second task waits for one response, or begins a turn of one conversation."""


class CallEndedError(MisuseError):
    """Raised when an attempt is made on behalf of a call that has already ended."""


class RefusedError(LamellaError):
    """Raised when the library itself refuses a request before it reaches the network."""

    outcome = Outcome.NOT_SENT


class UnsupportedError(RefusedError):
    """Raised when a model or transport cannot do what is asked of it."""

    elsewhere = True


class AttemptLimitError(RefusedError):
    """Raised when a model turn has used up its bound on attempts, whoever asked for them."""


class LimitedError(RefusedError):
    """Raised when a limit of this process or fleet leaves no room in time: rate, concurrency, load.

    `code` says which kind; `retry_after` when there is room again, None where nobody can know.
    """

    elsewhere = True


class BudgetExceededError(RefusedError):
    """Raised when a request may use more than is left of a budget; a smaller one may fit.

    It says nothing about the target, and is no `LimitedError`: a credential or a provider is not
    to be left alone because somebody's money is used up.

    Attributes:
        limit: How much the budget has: money, or a number of tokens or requests.
        spent: How much of that is spent; 0 where all of it would be too little, for nobody looks.
        reserved: How much is reserved by calls under way; likewise.
        wanted: How much the request may use.
        scope: Whose budget it is: by the name of each part, such as `user`, its value.
        resets_at: When it starts anew, in seconds since the epoch; None if it never does.
    """

    elsewhere = True
    limit: Money | int = 0
    spent: Money | int = 0
    reserved: Money | int = 0
    wanted: Money | int = 0
    scope: Mapping[str, str] = NOTHING
    resets_at: float | None = None


class CircuitOpenError(RefusedError):
    """Raised when a target has failed lately and is left alone until `retry_after` has passed."""

    elsewhere = True


class NoTargetError(RefusedError):
    """Raised when no target can take a request now; `retry_after` is the least of theirs."""

    elsewhere = True


class CacheMissError(RefusedError):
    """Raised when a request may be answered from a cache only, and the cache has no answer."""


class StoreUnavailableError(RefusedError):
    """Raised when the store that counts for the fleet does not answer, and that means no."""


class BlockedError(RefusedError):
    """Raised when a guard, or what protects personal data, lets a request or an answer not pass.

    Attributes:
        rule: Which rule of the layer; a word, never what it found.
        kinds: Of what kind it found something (`"email"`, `"term"`), sorted; may be empty.
    """

    rule: str = ""
    kinds: tuple[str, ...] = ()


class ApprovalRequired(RefusedError):
    """Raised when somebody has to agree before a request or an answer passes, and nobody was asked.

    Attributes:
        rule: Which rule asks.
        approval_id: The same for the same question, so that an answer given later can be kept.
        calls: The calls of tools that are to be agreed to, by the id of each question; empty where
            it is not about tools.
    """

    rule: str = ""
    approval_id: str = ""
    calls: Mapping[str, ToolCall] = NOTHING


class ToolLimitError(RefusedError):
    """Raised when a model goes on asking for tools after a limit on that is reached.

    `partial` has the turns so far: what was asked for, and what the tools said.

    Attributes:
        limit: Which: `"max_steps"`, `"max_tokens"`, `"max_cost"` or `"max_seconds"`.
    """

    limit: str = ""


class InspectionError(RefusedError):
    """Raised when what inspects texts fails or takes too long: uninspected, nothing passes.

    Attributes:
        inspector: Which detector or guard.
    """

    inspector: str = ""


class AuditError(RefusedError):
    """Raised when what is done cannot be written down, and must not be done otherwise."""


class SummariseError(RefusedError):
    """Raised when a conversation is too long and cannot be summarised, if that is not to pass.

    Attributes:
        why: In a few words; never of what was said.
    """

    why: str = ""


class TemplateError(RefusedError):
    """Raised when a `Prompt` cannot become messages: its name, version or variables are wrong.

    Attributes:
        template: The template's name; empty for one that has none.
        version: Its version; None where none was found.
        problems: What is wrong with the variables, a sentence each; never a value.
    """

    template: str = ""
    version: str | None = None
    problems: tuple[str, ...] = ()


class TargetsFailedError(LamellaError):
    """Raised when every target has failed. It is of the first failure's class as well.

    Attributes:
        errors: What each target failed with, in the order tried; never empty.
    """

    errors: tuple[Exception, ...] = ()


class CredentialsExhaustedError(LamellaError):
    """Raised when no credential of a pool is accepted: wrong, forbidden, or out of money."""

    phase = "first_event"
    elsewhere = True


class ProviderError(LamellaError):
    """Raised when the provider answers with an error."""

    phase = "first_event"


class InvalidRequestError(ProviderError):
    """The provider finds the request malformed (400, 413, 415, 422). Trying again cannot help."""


class ContextLengthError(InvalidRequestError):
    """The conversation is longer than the model's context window."""


class ContentFilteredError(InvalidRequestError):
    """The provider's content filter rejected the request."""


class AuthenticationError(ProviderError):
    """The provider does not accept the credential (401)."""

    elsewhere = True


class PermissionDeniedError(ProviderError):
    """The credential may not do this (403)."""

    elsewhere = True


class NotFoundError(ProviderError):
    """The provider does not know the model or the address (404)."""

    elsewhere = True


class ConflictError(ProviderError):
    """The resource is locked or in an unexpected state (409)."""

    retryable = True
    elsewhere = True


class RateLimitError(ProviderError):
    """The provider's rate limit is reached (429)."""

    retryable = True
    elsewhere = True


class QuotaError(ProviderError):
    """Money or quota is used up (402, or 429 `insufficient_quota`). Waiting does not help."""

    elsewhere = True


class OverloadedError(ProviderError):
    """The provider is overloaded (503, 529)."""

    retryable = True
    elsewhere = True


class ServerError(ProviderError):
    """The provider failed (500, 502, 504 and other 5xx)."""

    retryable = True
    elsewhere = True


class NetworkError(LamellaError):
    """Raised when bytes did not travel."""

    retryable = True
    elsewhere = True


class ConnectError(NetworkError):
    """No connection could be made: nothing was sent, nothing is billed."""

    phase = "connect"
    outcome = Outcome.NOT_SENT


class CertificateError(ConnectError):
    """The peer's certificate, or its TLS handshake, was not acceptable."""

    retryable = False


class ConnectionLostError(NetworkError):
    """The connection was lost after something was sent."""

    phase = "send"
    outcome = Outcome.UNKNOWN


class TimedOutError(LamellaError):
    """Raised when a limit in time ends an attempt or a call.

    Attributes:
        late: How many seconds after the limit this process noticed, where that is known. Much more
            than nothing means that the event loop was blocked, so that an answer which came in time
            may not have been read: such a timeout says nothing about the provider.
    """

    retryable = True
    elsewhere = True
    outcome = Outcome.TIMED_OUT
    phase: ErrorPhase = "first_event"
    late: float = 0.0


class ConnectTimeout(TimedOutError):
    """No connection within `Limits.connect`. Nothing was sent."""

    phase = "connect"
    outcome = Outcome.NOT_SENT


class WriteTimeout(TimedOutError):
    """The peer took no more of the request for `Limits.write`."""

    phase = "send"


class FirstEventTimeout(TimedOutError):
    """No semantic event within `Limits.first_event`."""


class IdleTimeout(TimedOutError):
    """No further semantic event within `Limits.idle`."""

    phase = "stream"


class AttemptTimeout(TimedOutError):
    """The attempt took longer than `Limits.attempt`."""


class DeadlineExceeded(TimedOutError):
    """The call's deadline has passed, or a needed wait would pass it."""

    retryable = False
    elsewhere = False


class ProtocolError(LamellaError):
    """Raised when the bytes of an answer make no sense (HTML, malformed JSON, a missing choice)."""

    retryable = True
    elsewhere = True
    phase = "decode"


class ResponseTooLargeError(ProtocolError):
    """The answer is larger than the transport's limit on size."""

    retryable = False


class StreamTruncated(LamellaError):
    """Raised when an answer stops without its protocol's terminal signal."""

    retryable = True
    elsewhere = True
    phase = "stream"
    outcome = Outcome.TRUNCATED


class StructureError(LamellaError):
    """Raised when an answer is not the value that `returns=` asked for.

    `code` says why: `"mismatch"` (it does not fit the type), `"length"` (it was cut off),
    `"refusal"`, `"content_filter"`, or `"tool_calls"` (the model wants the caller's tools first).

    Attributes:
        problems: Where it does not fit; in words that have nothing of the answer. Empty unless the
            code is `"mismatch"`.
        text: What was to be the value, as the model wrote it. `partial` has the whole answer.
    """

    elsewhere = True
    phase = "decode"
    problems: tuple[Problem, ...] = ()
    text: str = ""


class ClosedError(LamellaError):
    """Raised when a pipeline, transport or response is used, or was waiting, while it closed."""
