"""What one API of a provider says on the wire: how requests are written and answers are read.

A transport owns addresses, keys, connections and errors of HTTP; a dialect owns bodies. It holds no
state, so that one serves every request; what a stream needs to remember lives in its decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import attrs

from lamella._events import Event
from lamella._nothing import NOTHING
from lamella._responses import Head

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella._errors import LamellaError
    from lamella._prompt_caching import PromptCaching
    from lamella.transports._media_limits import MediaLimits

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Names and values of headers, as they are sent."""

Message: TypeAlias = tuple[str | None, bytes]
"""One message of a stream: its kind, None where it has none, and its data."""

JSON: TypeAlias = dict[str, Any]


@attrs.frozen(kw_only=True)
class DialectOptions:
    """The quirks of an endpoint, as data.

    Attributes:
        max_tokens_name: What the endpoint calls the bound on output tokens.
        stream_usage: Whether to ask for usage at the end of a stream
            (`stream_options.include_usage`); some compatible servers refuse it.
        developer_role: Whether system messages go out with the role `developer`.
        reasoning_field: The field of a message in which a model's earlier thinking is sent back,
            such as `reasoning_content`; None where there is none.
        send_user: Whether `context.user` is sent to the provider.
        refuse_foreign: Whether a conversation is refused that holds what only another provider
            understands (sealed reasoning, parts that it alone knows). Otherwise that is left out,
            with a note in the trace.
        card: The model's card, for dialects that ask for it (`wants_card`); None without one.
        quirks: Anything else that a dialect understands, by name.
    """

    max_tokens_name: str = "max_completion_tokens"
    stream_usage: bool = True
    developer_role: bool = False
    reasoning_field: str | None = "reasoning_content"
    send_user: bool = False
    refuse_foreign: bool = False
    card: ModelCard | None = attrs.field(default=None, repr=False)
    quirks: Mapping[str, Any] = attrs.field(default=NOTHING, hash=False)


DEFAULT_OPTIONS = DialectOptions()
"""The quirks of OpenAI's own endpoint."""


class MessageReader(Protocol):
    """Cuts the bytes of one stream into messages, wherever the bytes themselves are cut."""

    def feed(self, data: bytes) -> Sequence[Message]:
        """The messages that are complete with these bytes.

        Raises:
            ResponseTooLargeError: If a message is larger than the bound.
            ProtocolError: If the bytes are no messages.
        """
        ...

    def finish(self) -> Sequence[Message]:
        """What the end of the bytes completes."""
        ...


class StreamDecoder(Protocol):
    """Reads the messages of one stream.

    A decoder whose protocol has no terminal signal may have an attribute `complete`: whether the
    answer needs no more, though more may follow. It is then not waited for without end. One whose
    protocol states usage before the end may have a method `stated`, which gives the `Usage` stated
    so far, or None: it is what is known of an answer that breaks off, or is left. One that is told
    of its class of service in passing may have a method `learned`, which gives the head with it.
    """

    head: Head
    """What has been learned of the answer so far: its model and id, the class of service that it
    was given, and what the provider says that it costs."""

    def feed(self, event: str | None, data: bytes) -> Sequence[Event]:
        """What one message of the stream says.

        Args:
            event: The message's kind (the `event:` field); None without one.
            data: What it says.

        Raises:
            ProtocolError: If the data make no sense.
            LamellaError: The provider's own error, where the message brings one.
        """
        ...

    def finish(self) -> Sequence[Event]:
        """The last events, `[UsageReport?, Finish]`, once the stream is over.

        Empty if the protocol's terminal signal was not seen: the answer is truncated.
        """
        ...

    @property
    def done(self) -> bool:
        """Whether the protocol said that it is over (`[DONE]`, `response.completed`)."""
        ...


class Dialect(Protocol):
    """One API of a provider. Stateless.

    `BaseDialect` has what most APIs have in common.

    Attributes:
        operation: Which operation it speaks: `chat`.
        api: What model cards and rules call the API: `chat`, `responses`, `embeddings` ...
        stream_type: The content type of a stream.
        wants_card: Whether `encode` is to find the model's card in its options.
        default_model: The model of requests that name none, where it is not the transport's own:
            a model for chat judges nothing. None leaves it to the transport.
        service_header: The header of an answer that names the class of service it was given; empty
            where there is none.
    """

    operation: ClassVar[str]
    api: ClassVar[str]
    stream_type: ClassVar[str]
    wants_card: ClassVar[bool]
    default_model: ClassVar[str | None]
    service_header: ClassVar[str]

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL, with what query there is: `/chat/completions`."""
        ...

    def headers(self, request: Any) -> Headers:
        """Headers that come of the request itself."""
        ...

    def prompt_caching(
        self, model: str, *, options: DialectOptions, card: ModelCard | None
    ) -> PromptCaching | None:
        """What the API's prompt cache takes for a model: marks, a key; None for nothing.

        Args:
            model: The model that is asked.
            options: The endpoint's quirks.
            card: The model's card; None without one.
        """
        ...

    def encode(self, request: Any, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request, ready to be written as JSON.

        What the API has no words for is refused, or left out with a note in the trace; see
        `Losses`.

        Args:
            request: What is asked.
            stream: Whether the answer is to come as a stream.
            options: The endpoint's quirks.

        Raises:
            UnsupportedError: If the API has no words for something that is asked.
        """
        ...

    def decode(self, body: bytes, request: Any = None) -> tuple[Sequence[Event], Head]:
        """The events of a complete answer, ending with `Finish`, and what is known besides.

        Args:
            body: The answer.
            request: What was asked, so that usage can be estimated where nobody states it.

        Raises:
            ProtocolError: If the bytes are no answer: HTML, malformed JSON, no choice.
            LamellaError: The provider's own error, where the body is one.
        """
        ...

    def decode_reply(
        self, body: bytes, headers: Mapping[str, str], request: Any = None
    ) -> tuple[Sequence[Event], Head]:
        """As `decode`, with what the answer's headers say: some state usage there only.

        Args:
            body: The answer.
            headers: With lower-case names.
            request: What was asked.
        """
        ...

    def reader(self, max_message_bytes: int) -> MessageReader:
        """A fresh reader of the stream's framing."""
        ...

    def decoder(self, request: Any) -> StreamDecoder:
        """A fresh reader for the stream that answers `request`."""
        ...

    def error(
        self, status: int, body: bytes, headers: Mapping[str, str], *, now: float
    ) -> LamellaError:
        """The error of an answer whose status is not a success.

        Args:
            status: The HTTP status.
            body: The beginning of the answer's body; anything.
            headers: With lower-case names.
            now: Seconds since the epoch.
        """
        ...


class BaseDialect:
    """What most APIs have in common: streams are server-sent events, errors say so in JSON.

    A subclass has the name of its provider in `provider`.
    """

    stream_type: ClassVar[str] = "text/event-stream"
    wants_card: ClassVar[bool] = False
    default_model: ClassVar[str | None] = None
    service_header: ClassVar[str] = ""

    provider: str

    def headers(self, request: Any) -> Headers:
        """No header but those that are always the same."""
        return ()

    def prompt_caching(
        self, model: str, *, options: DialectOptions, card: ModelCard | None
    ) -> PromptCaching | None:
        """Nothing."""
        return None

    def media_limits(self, card: ModelCard) -> MediaLimits | None:
        """What the model takes of pictures and documents; None if nobody says."""
        return None

    def decode(self, body: bytes, request: Any = None) -> tuple[Sequence[Event], Head]:
        """The events of a complete answer, as its reader for streams gives them by `whole`.

        Args:
            body: The answer.
            request: What was asked. With it, usage that the provider left out is estimated; without
                it, there is none.

        Raises:
            ProtocolError: If the bytes are no answer.
            LamellaError: The provider's own error, where the body is one.
        """
        decoder = self.decoder(request)
        events: Sequence[Event] = decoder.whole(body)
        return events, decoder.head

    def decoder(self, request: Any) -> Any:
        """No reader: what is not streamed does not come as a stream.

        Raises:
            ProtocolError: Always.
        """
        from lamella.transports._wire_json import nonsense

        raise nonsense("an answer", "a stream", provider=self.provider)

    def decode_reply(
        self, body: bytes, headers: Mapping[str, str], request: Any = None
    ) -> tuple[Sequence[Event], Head]:
        """As `decode`: the headers say nothing more."""
        return self.decode(body, request)

    def reader(self, max_message_bytes: int) -> MessageReader:
        """A fresh reader of server-sent events."""
        from lamella.transports._sse import EventReader

        return EventReader(max_message_bytes=max_message_bytes)

    def error(
        self, status: int, body: bytes, headers: Mapping[str, str], *, now: float
    ) -> LamellaError:
        """The error that status and body stand for; see `status_error`."""
        from lamella.transports._http_errors import status_error

        return status_error(status, body, headers, provider=self.provider, now=now)
