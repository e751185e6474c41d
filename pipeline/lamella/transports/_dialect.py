"""What one API of a provider says on the wire: how requests are written and answers are read.

A transport owns addresses, keys, connections and errors of HTTP; a dialect owns bodies. It holds no
state, so that one serves every request; what a stream needs to remember lives in its decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import attrs

from lamella._events import Event
from lamella._nothing import NOTHING
from lamella._responses import Head


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
        quirks: Anything else that a dialect understands, by name.
    """

    max_tokens_name: str = "max_completion_tokens"
    stream_usage: bool = True
    developer_role: bool = False
    reasoning_field: str | None = "reasoning_content"
    send_user: bool = False
    quirks: Mapping[str, Any] = attrs.field(default=NOTHING, hash=False)


DEFAULT_OPTIONS = DialectOptions()
"""The quirks of OpenAI's own endpoint."""


class StreamDecoder(Protocol):
    """Reads one stream of server-sent events."""

    head: Head
    """What has been learned of the answer so far: its model and id."""

    def feed(self, event: str | None, data: bytes) -> Sequence[Event]:
        """What one message of the stream says.

        Args:
            event: The message's `event:` field; None without one.
            data: Its `data:` lines, joined by newlines.

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

    Attributes:
        path: Where requests go, after the base URL: `/chat/completions`.
        operation: Which operation it speaks: `chat`.
    """

    path: ClassVar[str]
    operation: ClassVar[str]

    def encode(self, request: Any, *, stream: bool, options: DialectOptions) -> dict[str, Any]:
        """The body of a request, ready to be written as JSON.

        Args:
            request: What is asked.
            stream: Whether the answer is to come as server-sent events.
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

    def decoder(self, request: Any) -> StreamDecoder:
        """A fresh reader for the stream that answers `request`."""
        ...
