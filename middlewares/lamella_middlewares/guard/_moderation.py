"""Moderation: texts and pictures judged by a provider's classifier, asked in the same call."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias

import attrs

from lamella import (
    ConfigurationError,
    Image,
    Moderation,
    ModerationRequest,
    ModerationResponse,
    Pipeline,
    ProtocolError,
    Request,
    Surface,
    map_texts,
)
from lamella._options import is_number
from lamella_middlewares.guard._media import media_of
from lamella_middlewares.guard._rules import Direction, Inspection, Review, Rule, checked
from lamella_middlewares.guard._verdicts import Verdict, allow, ask, block

Action: TypeAlias = Literal["block", "ask", "note"]

_ACTIONS: Final = ("block", "ask", "note")
_BATCH: Final = 32
_OVERLAP: Final = 200
"""Characters that two pieces of a long text share, so that what stands between them is seen."""

_FORMS: Final = frozenset({"text", "file"})
_UNSAID: Final = re.compile(r"[^A-Za-z0-9_.:/-]")
_Found: TypeAlias = frozenset[str]


def moderation(  # noqa: PLR0913 - all by name, and most of them rare
    *,
    model: str | None = None,
    categories: Iterable[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    action: Action = "block",
    pipeline: Pipeline | None = None,
    images: bool = True,
    roles: Collection[str] | None = ("user", "tool"),
    characters: int = 20_000,
    max_inputs: int = 64,
    name: str = "moderation",
    direction: Direction = "both",
) -> Rule:
    """Blocks, notes or asks about what a classifier finds harmful.

    The classifier is asked in the call itself, by a `ModerationRequest` through the layers inside
    the guard, so that it sees what the provider would see: masked texts. Each text is judged once
    in a call, however many turns it has. What cannot be judged does not pass.

    Args:
        model: The classifier. None is the provider's own: `omni-moderation-latest` for OpenAI.
        categories: What counts, by the provider's words (`"violence"`, `"self-harm/intent"`). None
            counts all.
        thresholds: From what score up a category counts, from 0 to 1. The others count where the
            provider flags them.
        action: `"block"`, `"ask"`, or `"note"`: it passes, with a note in the trace.
        pipeline: Who is asked instead, where the pipeline's own provider has no classifier. It is
            not closed with the guard's pipeline.
        images: Whether pictures in requests are judged, each by itself.
        roles: The roles of messages that are judged in requests; None judges every text.
        characters: A longer text is judged in pieces of this length, 1,000 or more.
        max_inputs: Pieces and pictures that are judged at once, 1 or more; a request or answer of
            more is blocked.
        name: See `Rule`.
        direction: See `Rule`. An answer that is judged is held back until its end.

    Raises:
        ConfigurationError: If an option is wrong.
    """
    _must_be_bounded(characters=(characters, 1000), max_inputs=(max_inputs, 1))
    wanted = None if categories is None else _names(categories)
    return checked(
        ModerationRule(
            name=name,
            direction=direction,
            model=model,
            categories=wanted,
            thresholds=_limits(dict(thresholds or {}), wanted),
            action=_known(action),
            pipeline=_whole(pipeline),
            images=images,
            judged_roles=None if roles is None else _names(roles),
            characters=characters,
            max_inputs=max_inputs,
        )
    )


@attrs.frozen(kw_only=True, eq=False)
class ModerationRule(Rule):
    """The rule that `moderation` makes."""

    name: str
    direction: Direction
    model: str | None
    categories: tuple[str, ...] | None
    thresholds: tuple[tuple[str, float], ...]
    action: Action
    pipeline: Pipeline | None
    images: bool
    judged_roles: tuple[str, ...] | None
    characters: int
    max_inputs: int

    def review(self, review: Review, /) -> Verdict | Awaitable[Verdict]:
        """Judge all texts and pictures of a request together."""
        request = review.request
        if request.operation == "moderation":  # which asks the same
            return allow()
        texts = self._texts(request)
        pictures: list[Image] = []
        if self.images:
            pictures = [one for one in media_of(request) if isinstance(one, Image)]
        return self._judged(review, texts, pictures) if texts or pictures else allow()

    async def inspect(self, inspection: Inspection, /) -> Verdict:
        """Judge one text of an answer; those of requests have been judged in `review`."""
        if inspection.direction == "in" or not inspection.text.strip():
            return allow()
        return await self._judged(inspection, [inspection.text], ())

    def _texts(self, request: Request[Any]) -> list[str]:
        found: dict[str, None] = {}

        def collect(text: str, surface: Surface) -> str:
            roles = self.judged_roles
            seen = roles is None or surface.role in roles
            if seen and surface.form in _FORMS and text.strip():
                found[text] = None
            return text

        map_texts(request, collect)
        return list(found)

    async def _judged(
        self, scene: Review | Inspection, texts: Sequence[str], pictures: Sequence[Image]
    ) -> Verdict:
        kept: dict[bytes, _Found] = scene.kept.setdefault(("guard.moderation", self), {})
        pieces = {_digest(piece): piece for text in texts for piece in self._pieces(text)}
        shown = {_picture_digest(picture): picture for picture in pictures}
        found: set[str] = set()
        for key in (*pieces, *shown):
            found |= kept.get(key, frozenset())
        if found and self.action != "note":
            return self._verdict(found)
        new = [(key, piece) for key, piece in pieces.items() if key not in kept]
        unseen = [(key, picture) for key, picture in shown.items() if key not in kept]
        count = len(new) + len(unseen)
        if count > self.max_inputs:
            return block("too_many", kinds=("inputs",), found=count, most=self.max_inputs)
        batches: list[Sequence[tuple[bytes, Any]]] = [
            new[start : start + _BATCH] for start in range(0, len(new), _BATCH)
        ]
        batches += [[(key, (picture,))] for key, picture in unseen]
        for batch in batches:
            answer = await self._ask(scene, [given for _, given in batch])
            for (key, _), result in zip(batch, answer, strict=True):
                kept[key] = self._counted(result)
                found |= kept[key]
            if found and self.action != "note":
                break  # it does not pass, whatever else there is
        return self._verdict(found)

    async def _ask(self, scene: Review | Inspection, inputs: list[Any]) -> Sequence[Moderation]:
        request = ModerationRequest.of(inputs, model=self.model)
        answer: ModerationResponse
        if self.pipeline is None:
            answer = await scene.child(request, purpose=self.name)
        else:
            child = scene.request.child(request, purpose=self.name, asked_by="guard")
            answer = await self.pipeline(child)
        if len(answer.results) != len(inputs):
            msg = f"{len(answer.results)} results came for {len(inputs)} inputs."
            raise ProtocolError(msg, code="missing_results")
        return answer.results

    def _counted(self, result: Moderation) -> _Found:
        """The categories of a result that count."""
        limits = dict(self.thresholds)
        names: Collection[str] = result.categories if self.categories is None else self.categories
        for name in (*names, *limits):
            if name not in result.categories or name not in result.scores:
                raise ConfigurationError(
                    f"moderation: the classifier knows no category {name!r}.",
                    hint=f"It has {', '.join(sorted(result.categories))}.",
                    code="unknown_category",
                )
        found = {
            _word(name)
            for name in names
            if (result.scores[name] >= limits[name] if name in limits else result.categories[name])
        }
        if result.flagged and self.categories is None and not result.flagged_categories:
            found.add("unspecified")
        return frozenset(found)

    def _pieces(self, text: str) -> Iterable[str]:
        length = self.characters
        if len(text) <= length:
            return (text,)
        step = length - _OVERLAP
        return [text[start : start + length] for start in range(0, len(text) - _OVERLAP, step)]

    def _verdict(self, found: Collection[str]) -> Verdict:
        if not found:
            return allow()
        if self.action == "note":
            return allow("flagged", kinds=found)
        decide: Callable[..., Verdict] = block if self.action == "block" else ask
        return decide("flagged", kinds=found)


def _word(name: str) -> str:
    """A provider's category as a word of ours."""
    word = _UNSAID.sub("_", name)[:64]
    return word if word[:1].isalpha() else f"category_{word}"[:64]


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=b"text").digest()


def _picture_digest(picture: Image) -> bytes:
    data = picture.data if picture.data is not None else (picture.url or "").encode()
    person = b"data" if picture.data is not None else b"url"
    return blake2b(data, digest_size=16, person=person).digest()


def _known(action: Action) -> Action:
    if action not in _ACTIONS:
        raise ConfigurationError(f"moderation(action={action!r}): give 'block', 'ask' or 'note'.")
    return action


def _whole(pipeline: Pipeline | None) -> Pipeline | None:
    if pipeline is not None and not isinstance(pipeline, Pipeline):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"moderation(pipeline={pipeline!r}): give a Pipeline.",
            hint="For example Pipeline([], OpenAI()).",
        )
    return pipeline


def _must_be_bounded(**options: tuple[int, int]) -> None:
    for option, (value, least) in options.items():
        if type(value) is not int or value < least:
            raise ConfigurationError(
                f"moderation({option}={value!r}): give a whole number, {least} or more."
            )


def _limits(
    thresholds: Mapping[str, float], wanted: Collection[str] | None
) -> tuple[tuple[str, float], ...]:
    for category, limit in thresholds.items():
        if not is_number(limit) or not 0 <= limit <= 1:
            raise ConfigurationError(
                f"moderation(thresholds=...): {category!r} has {limit!r}: give a number, 0 to 1."
            )
        if wanted is not None and category not in wanted:
            raise ConfigurationError(
                f"moderation(thresholds=...): {category!r} is none of categories={wanted!r}."
            )
    return tuple(sorted(thresholds.items()))


def _names(given: Iterable[str]) -> tuple[str, ...]:
    names: list[Any] = [None] if isinstance(given, str) else list(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError(f"moderation: {given!r} is no list of words, at least one.")
    return tuple(names)
