"""Embeddings: texts in, vectors out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import attrs

from lamella._batches import pieces, together
from lamella._events import Event, Finish, UsageReport, Vector
from lamella._requests import Request
from lamella._responses import Head, Response
from lamella._usage import Usage


@attrs.frozen
class EmbeddingAnswer:
    """What the events of an embedding answer amount to.

    Attributes:
        vectors: One for each input, in the order of the inputs.
        finish_reason: `"stop"` once it is complete.
        usage: What it consumed; None if nobody said.
    """

    vectors: tuple[tuple[float, ...], ...] = attrs.field(repr=False)
    finish_reason: str | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """Empty: an embedding has none."""
        return ""


class EmbeddingResponse(Response):
    """The vectors of some inputs."""

    operation: ClassVar[str] = "embeddings"

    __slots__ = ()

    @classmethod
    def of(
        cls,
        vectors: Iterable[Sequence[float]],
        *,
        usage: Usage | None = None,
        model: str | None = None,
    ) -> EmbeddingResponse:
        """A complete answer, so that a plain async function is a transport in one line."""
        events: list[Event] = [Vector(index, tuple(values)) for index, values in enumerate(vectors)]
        if usage is not None:
            events.append(UsageReport(usage))
        events.append(Finish("stop"))
        return EmbeddingResponse(events, Head(model=model))

    @classmethod
    def _fold(cls, events: Sequence[Event]) -> EmbeddingAnswer:
        found: dict[int, tuple[float, ...]] = {}
        usage, reason = None, None
        for event in events:
            if isinstance(event, Vector):
                found[event.index] = event.values
            elif isinstance(event, UsageReport):
                usage = event.usage
            elif isinstance(event, Finish):
                reason = event.reason
        return EmbeddingAnswer(tuple([found[index] for index in sorted(found)]), reason, usage)

    @property
    def answer(self) -> EmbeddingAnswer:
        """What all its events amount to."""
        answer = super().answer
        assert isinstance(answer, EmbeddingAnswer)  # noqa: S101 - _fold gives nothing else
        return answer

    @property
    def vectors(self) -> tuple[tuple[float, ...], ...]:
        """One vector for each input, in the order of the inputs."""
        return self.answer.vectors

    @property
    def vector(self) -> tuple[float, ...]:
        """The vector of the first input."""
        return self.answer.vectors[0]


def _inputs(given: str | Iterable[str]) -> tuple[str, ...]:
    inputs = (given,) if isinstance(given, str) else tuple(given)
    if not inputs:
        msg = "An EmbeddingRequest needs at least one input."
        raise ValueError(msg)
    return inputs


@attrs.frozen(slots=False, kw_only=True, hash=False)
class EmbeddingRequest(Request[EmbeddingResponse]):
    """Texts to embed.

    Attributes:
        inputs: The texts, at least one; a single text is one input.
        dimensions: The length of the vectors, where the model lets one choose; None is its own.
    """

    operation: ClassVar[str] = "embeddings"
    response_type: ClassVar[type[Response]] = EmbeddingResponse

    inputs: tuple[str, ...] = attrs.field(converter=_inputs)
    dimensions: int | None = None

    @classmethod
    def of(cls, inputs: str | Iterable[str], **fields: Any) -> Self:
        """A request from one text or several."""
        return cls(inputs=inputs, **cls.known(fields))

    def split(self, size: int = 1) -> tuple[Self, ...]:
        """Smaller requests of at most `size` inputs, together the same; `merge` joins answers."""
        return pieces(self, self.inputs, size)

    def merge(self, answers: Iterable[EmbeddingResponse]) -> EmbeddingResponse:
        """The answer to this request from the complete answers to its pieces, in order.

        Usage is the sum, except of answers that were replayed.
        """
        found = list(answers)
        usage, head = together(found)
        vectors = [vector for answer in found for vector in answer.vectors]
        events: list[Event] = [Vector(index, vector) for index, vector in enumerate(vectors)]
        if usage is not None:
            events.append(UsageReport(usage))
        return self.answer([*events, Finish("stop")], head)

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that it asks of a model, in the words of the model cards."""
        return frozenset({"dimensions"}) if self.dimensions is not None else frozenset()
