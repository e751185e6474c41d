"""Moderation: texts and pictures in, what a classifier finds harmful in each out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias, cast

import attrs

from lamella._batches import pieces, together
from lamella._events import Event, Finish, Moderation, UsageReport
from lamella._parts import Image, Text
from lamella._requests import Request
from lamella._responses import Head, Response
from lamella._usage import Usage

ModerationInput: TypeAlias = str | tuple[Text | Image, ...]
"""What is judged as one: a text, or texts and pictures that belong together."""

_WANTED = "Give texts, Text and Image parts, and lists of these for what belongs together."


@attrs.frozen
class ModerationAnswer:
    """What the events of a moderation amount to.

    Attributes:
        results: One for each input, in the order of the inputs.
        finish_reason: `"stop"` once it is complete.
        usage: What it consumed; None if nobody said.
    """

    results: tuple[Moderation, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """Empty: a moderation has none."""
        return ""


class ModerationResponse(Response):
    """What a classifier found in some inputs."""

    operation: ClassVar[str] = "moderation"

    __slots__ = ()

    @classmethod
    def of(
        cls,
        results: Iterable[Moderation | Mapping[str, float]],
        *,
        usage: Usage | None = None,
        model: str | None = None,
    ) -> ModerationResponse:
        """A complete answer, so that a plain async function is a transport in one line.

        Args:
            results: One for each input: a result, or scores by category, of which those from 0.5
                up are flagged.
            usage: What it consumed; None is nothing.
            model: Who judged.
        """
        found = [one if isinstance(one, Moderation) else Moderation.of(one) for one in results]
        return ModerationResponse(moderation_events(found, usage), Head(model=model))

    @classmethod
    def _fold(cls, events: Sequence[Event]) -> ModerationAnswer:
        found: dict[int, Moderation] = {}
        usage, reason = None, None
        for event in events:
            if isinstance(event, Moderation):
                found[event.index] = event
            elif isinstance(event, UsageReport):
                usage = event.usage
            elif isinstance(event, Finish):
                reason = event.reason
        return ModerationAnswer(tuple([found[index] for index in sorted(found)]), reason, usage)

    @property
    def answer(self) -> ModerationAnswer:
        """What all its events amount to."""
        answer = super().answer
        assert isinstance(answer, ModerationAnswer)  # noqa: S101 - _fold gives nothing else
        return answer

    @property
    def results(self) -> tuple[Moderation, ...]:
        """One result for each input, in the order of the inputs."""
        return self.answer.results

    @property
    def result(self) -> Moderation:
        """The result of the first input."""
        return self.answer.results[0]

    @property
    def flagged(self) -> bool:
        """Whether any of the inputs is flagged."""
        return any(result.flagged for result in self.answer.results)


def moderation_events(
    results: Sequence[Moderation], usage: Usage | None = None
) -> tuple[Event, ...]:
    """The events of an answer: its results, numbered by their place, usage, and the end.

    Args:
        results: One for each input, in order.
        usage: What was consumed; None is nothing, as the endpoints that are known bill nothing.
    """
    numbered = [
        one if one.index == index else attrs.evolve(one, index=index)
        for index, one in enumerate(results)
    ]
    return (*numbered, UsageReport(Usage() if usage is None else usage), Finish("stop"))


def _input(given: Any) -> ModerationInput:
    """One input: several parts, or a text with `extra`, are a tuple; plain text is itself."""
    if isinstance(given, str):
        return given
    if isinstance(given, Text | Image):
        return given.text if isinstance(given, Text) and not given.extra else (given,)
    parts: list[Text | Image] = []
    for part in _several(given, "An input of a ModerationRequest is"):
        if not isinstance(part, str | Text | Image):
            kind = type(part).__name__
            raise TypeError(f"An input of a ModerationRequest holds a {kind}. {_WANTED}")
        parts.append(Text(part) if isinstance(part, str) else part)
    if not parts:
        raise ValueError(f"An input of a ModerationRequest is empty. {_WANTED}")
    return tuple(parts)


def _inputs(given: Any) -> tuple[ModerationInput, ...]:
    if isinstance(given, str | Text | Image):
        return (_input(given),)
    several = _several(given, "The inputs of a ModerationRequest are")
    inputs = tuple([_input(one) for one in several])
    if not inputs:
        raise ValueError("A ModerationRequest needs at least one input.")
    return inputs


def _several(given: object, what: str) -> Iterable[Any]:
    kind = type(given)
    if hasattr(kind, "__iter__") and not issubclass(kind, bytes | bytearray | Mapping):
        return cast("Iterable[Any]", given)
    raise TypeError(f"{what} a {kind.__name__}. {_WANTED}")


_Given: TypeAlias = "str | Text | Image | Iterable[str | Text | Image]"


@attrs.frozen(slots=False, kw_only=True, hash=False)
class ModerationRequest(Request[ModerationResponse]):
    """Asks a classifier whether texts and pictures are harmful, and in what way.

    Each input gets a result of its own. What belongs together, such as a picture and the words
    under it, is one input: a list of parts inside the list of inputs. Some endpoints take one
    input with pictures per request; `split` makes one request of each.

    Attributes:
        inputs: What to judge, at least one: each a text, or a tuple of `Text` and `Image` parts. A
            single text or part is one input.
    """

    operation: ClassVar[str] = "moderation"
    response_type: ClassVar[type[Response]] = ModerationResponse
    own_model: ClassVar[bool] = True

    inputs: tuple[ModerationInput, ...] = attrs.field(converter=_inputs)

    @classmethod
    def of(cls, inputs: _Given | Iterable[_Given], **fields: Any) -> Self:
        """A request from one input or several.

        Args:
            inputs: A text or part; or several inputs, each a text, a part, or a list of them.
            **fields: Fields of the request: `model=`, `extra=`, `context=`.

        Raises:
            TypeError: If an input is something else than text and pictures.
            ValueError: If there is none, or one is empty.
        """
        return cls(inputs=inputs, **cls.known(fields))

    def split(self, size: int = 1) -> tuple[Self, ...]:
        """Smaller requests of at most `size` inputs, together the same; `merge` joins answers."""
        return pieces(self, self.inputs, size)

    def merge(self, answers: Iterable[ModerationResponse]) -> ModerationResponse:
        """The answer to this request from the complete answers to its pieces, in order.

        Usage is the sum, except of answers that were replayed.
        """
        found = list(answers)
        usage, head = together(found)
        results = [result for answer in found for result in answer.results]
        return self.answer(moderation_events(results, usage), head)

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that it asks of a model, in the words of the model cards."""
        pictures = any(
            isinstance(part, Image)
            for given in self.inputs
            if not isinstance(given, str)
            for part in given
        )
        return frozenset({"image_input"}) if pictures else frozenset()
