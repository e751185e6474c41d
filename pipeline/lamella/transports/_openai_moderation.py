"""OpenAI's moderation API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from lamella._errors import UnsupportedError
from lamella._events import Event, Moderation
from lamella._moderation import ModerationInput, ModerationRequest, moderation_events
from lamella._parts import Text
from lamella._responses import Head
from lamella.transports._dialect import JSON, BaseDialect, DialectOptions
from lamella.transports._openai_usage import usage_of
from lamella.transports._wire_json import (
    is_list,
    is_object,
    json_object,
    nonsense,
    raise_in_band,
    text_of,
)
from lamella.transports._wire_parts import image_url, merge_extra


@attrs.frozen
class OpenAIModeration(BaseDialect):
    """The dialect of the operation `moderation`: `POST /moderations`.

    The API judges several texts in one request, or one input that holds a picture.

    Attributes:
        provider: Whose answers these are; stands in errors.
    """

    operation: ClassVar[str] = "moderation"
    api: ClassVar[str] = "moderation"
    default_model: ClassVar[str | None] = "omni-moderation-latest"

    provider: str = "openai"

    def path(self, model: str, *, stream: bool) -> str:
        """Where requests go, after the base URL."""
        return "/moderations"

    def encode(self, request: ModerationRequest, *, stream: bool, options: DialectOptions) -> JSON:
        """The body of a request. `request.extra` is merged last and wins over typed fields.

        Raises:
            UnsupportedError: If one of several inputs is more than a text, or a picture has neither
                address nor type.
        """
        body: JSON = {} if request.model is None else {"model": request.model}
        body["input"] = self._input(request.inputs)
        if request.extra:
            merge_extra(body, request, provider=self.provider)
        return body

    def decode(
        self, body: bytes, request: ModerationRequest | None = None
    ) -> tuple[Sequence[Event], Head]:
        """The results in the order of the inputs, that they cost nothing, and the end.

        Args:
            body: The answer.
            request: What was asked. With it, the number of results is checked.

        Raises:
            ProtocolError: If the bytes are no answer, a result has no categories, or a category has
                no verdict and no score from 0 to 1.
            LamellaError: The provider's own error, where the body is one.
        """
        answer = json_object(body, "a moderation", provider=self.provider)
        if "results" not in answer:
            raise_in_band(answer, provider=self.provider)
        given = answer.get("results")
        if not is_list(given) or not given:
            raise self._nonsense("no results")
        if request is not None and len(given) != len(request.inputs):
            raise self._nonsense(f"{len(given)} results for {len(request.inputs)} inputs")
        results = [self._result(one, index) for index, one in enumerate(given)]
        head = Head(model=text_of(answer, "model"), id=text_of(answer, "id"), raw=body)
        return moderation_events(results, usage_of(answer.get("usage"))), head

    # --- what is asked -----------------------------------------------------------------------

    def _input(self, inputs: Sequence[ModerationInput]) -> Any:
        if len(inputs) == 1:
            (one,) = inputs
            return one if isinstance(one, str) else self._parts(one)
        if all(isinstance(one, str) for one in inputs):
            return list(inputs)
        raise UnsupportedError(
            "One request moderates several texts, or one input of several parts; this one has "
            f"{len(inputs)} inputs, and parts in some of them.",
            hint="Ask for each by itself: `request.split()`, then `request.merge(answers)`.",
            code="unsupported_value",
            provider=self.provider,
        )

    def _parts(self, parts: Sequence[Any]) -> list[JSON]:
        return [
            {"type": "text", "text": part.text}
            if isinstance(part, Text)
            else {
                "type": "image_url",
                "image_url": {"url": image_url(part, provider=self.provider)},
            }
            for part in parts
        ]

    # --- what is answered --------------------------------------------------------------------

    def _nonsense(self, found: str) -> Exception:
        return nonsense("a moderation", found, provider=self.provider)

    def _result(self, given: object, index: int) -> Moderation:
        if not is_object(given):
            raise self._nonsense("a result that is no object")
        flagged = given.get("flagged")
        if not isinstance(flagged, bool):
            raise self._nonsense("a result that does not say whether it is flagged")
        categories = self._verdicts(given)
        return Moderation(
            flagged, categories, self._scores(given, categories), self._types(given), index
        )

    def _verdicts(self, given: Mapping[str, Any]) -> Mapping[str, bool]:
        """The categories; one that this model does not judge is null, and is left out."""
        said = given.get("categories")
        if not is_object(said):
            raise self._nonsense("a result without categories")
        found = {name: verdict for name, verdict in said.items() if verdict is not None}
        if not found or not all(isinstance(verdict, bool) for verdict in found.values()):
            raise self._nonsense("categories that are neither true nor false")
        return found

    def _scores(
        self, given: Mapping[str, Any], categories: Mapping[str, bool]
    ) -> Mapping[str, float]:
        said = given.get("category_scores")
        if not is_object(said):
            raise self._nonsense("a result without scores")
        found = {name: score for name, score in said.items() if score is not None}
        if not all(map(_is_score, found.values())):
            raise self._nonsense("scores that are no numbers from 0 to 1")
        if not found.keys() >= categories.keys():
            raise self._nonsense("categories without scores")
        return {name: float(score) for name, score in found.items()}

    def _types(self, given: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        """What each category was looked for in; models that read only text do not say it."""
        said = given.get("category_applied_input_types")
        if said is None:
            return {}
        found: dict[str, tuple[str, ...]] = {}
        if not is_object(said):
            raise self._nonsense("input types that are no object")
        for name, kinds in said.items():
            if kinds is None:
                continue
            if not is_list(kinds) or not all(isinstance(kind, str) for kind in kinds):
                raise self._nonsense("input types that are no texts")
            found[name] = tuple(kinds)
        return found


def _is_score(given: object) -> bool:
    # No comparison holds of NaN.
    return isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 1
