"""Choosing a token counter: by tokenizer, by model card, by request."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from weakref import WeakKeyDictionary

from lamella._errors import ConfigurationError, LamellaError, PluginError
from lamella._exact_counter import Encode, ExactCounter
from lamella._fork_locks import fork_safe_lock
from lamella._mending import words_of
from lamella._registry import Registry, key_of, registry
from lamella._token_estimate import ESTIMATOR
from lamella._tokens import TokenCounter

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella._requests import Request

CounterOf: TypeAlias = "Callable[[Request[Any]], TokenCounter]"
"""Gives the counter of each request."""

logger = logging.getLogger("lamella")

_made: WeakKeyDictionary[Registry, dict[str, TokenCounter]] = WeakKeyDictionary()
"""One counter for each name: a vocabulary takes up to 100 MB."""

_chosen: WeakKeyDictionary[Registry, dict[str, _Chosen]] = WeakKeyDictionary()


def exact_counter(
    tokenizer: object, *, ranks: str | os.PathLike[str] | None = None
) -> TokenCounter:
    """Counts with a model's own vocabulary, which has to be on this machine already.

    It is read now, once a process, in up to 0.4 s, most of which no other thread can use: do it
    before there is traffic. Each vocabulary takes up to 100 MB.

    Args:
        tokenizer: The name of a registered tokenizer (`"o200k_base"`), of an encoding that a plugin
            of tiktoken has, or an object with `encode_ordinary(text)`, as tiktoken's encodings are.
        ranks: The file with the ranks of one of tiktoken's encodings. None looks in the folder
            `TIKTOKEN_CACHE_DIR`, where tiktoken keeps what it has downloaded.

    Raises:
        ConfigurationError: If a package or the ranks are missing or damaged; the hint has the
            remedy.
        UnknownNameError: If there is no such tokenizer.
        PluginError: If the plugin that has it cannot be imported.
    """
    if not isinstance(tokenizer, str):
        encode = cast("Encode | None", getattr(tokenizer, "encode_ordinary", None))
        if not callable(encode) or ranks is not None:
            msg = f"exact_counter({tokenizer!r}, ranks={ranks!r}): expected a tokenizer's name."
            hint = "Or else a tiktoken.Encoding without ranks, or any object with encode_ordinary."
            raise ConfigurationError(msg, hint=hint)
        return ExactCounter(str(getattr(tokenizer, "name", "own")), partial(_as_is, encode))
    if ranks is not None:
        from lamella._vocabularies import vocabulary

        return _read(ExactCounter(tokenizer, vocabulary(tokenizer, ranks)))
    known = registry()
    made = _made.setdefault(known, {})
    key = key_of(tokenizer)
    found = made.get(key)
    return _read(made.setdefault(key, _make(known, tokenizer)) if found is None else found)


def counter_for(model: ModelCard | str | None, *, provider: str = "openai") -> TokenCounter:
    """Counts as a model does if its tokenizer is known and here, and else by the estimator.

    The tokenizer is looked for, and its vocabulary read, when the first text is counted or `exact`
    is asked for; see `exact_counter` for what that costs. If it cannot be had, that is logged once,
    and the estimator counts instead.

    Args:
        model: Its card, or its name. None, or a name without a card, is estimated.
        provider: The provider in whose cards a name is looked up.
    """
    card: ModelCard | None
    if isinstance(model, str):
        from lamella._shared_cards import shared_cards

        card = shared_cards().find(provider, model)
    else:
        card = model
    if card is None or card.tokenizer is None:
        return ESTIMATOR
    return _choose(card.tokenizer)


def request_counter(request: Request[Any]) -> TokenCounter:
    """The counter for the model that a request is about to be sent to."""
    from lamella._target_fitness import Fitness

    return counter_for(Fitness(request).card(None))


def counter_choice(choice: TokenCounter | str | None) -> CounterOf:
    """What gives the counter of each request, from a layer's option.

    Args:
        choice: A counter, a tokenizer's name, `"auto"` for that of each request's model, or None
            for the estimator.

    Raises:
        ConfigurationError: As for `exact_counter`.
        UnknownNameError: As for `exact_counter`.
        PluginError: As for `exact_counter`.
    """
    if choice == "auto":
        return request_counter
    if isinstance(choice, str):
        counter = exact_counter(choice)
    else:
        counter = ESTIMATOR if choice is None else choice
    return _Always(choice, counter)


def _choose(tokenizer: str) -> TokenCounter:
    chosen = _chosen.setdefault(registry(), {})
    key = key_of(tokenizer)
    found = chosen.get(key)
    return found if found is not None else chosen.setdefault(key, _Chosen(tokenizer))


def _make(known: Registry, name: str) -> TokenCounter:
    if not known.has("tokenizers", name):
        return _of_tiktoken_plugin(known, name)
    found = known.get("tokenizers", name)
    made: object = found if hasattr(found, "count") and not isinstance(found, type) else found()
    if callable(getattr(made, "count", None)):
        return cast("TokenCounter", made)
    origin = known.origin("tokenizers", name)
    msg = f"Tokenizer {name!r} of {origin} is {made!r}, which cannot count(texts)."
    raise PluginError(msg, hint="It has to be a TokenCounter, or what makes one: upgrade it.")


def _of_tiktoken_plugin(known: Registry, name: str) -> TokenCounter:
    from lamella._vocabularies import vocabulary

    if find_spec("tiktoken") is None:
        raise known.unknown("tokenizers", name)
    try:
        return ExactCounter(name, vocabulary(name))
    except ConfigurationError as error:
        if isinstance(error.__cause__, LookupError):
            raise known.unknown("tokenizers", name) from error
        raise


def _read(counter: TokenCounter) -> TokenCounter:
    if isinstance(counter, ExactCounter):
        counter.load()
    return counter


def _as_is(encode: Encode) -> Encode:
    return encode


class _Always:
    """Gives one counter. What travels to another process is the choice, not the vocabulary."""

    __slots__ = ("_choice", "_counter")

    def __init__(self, choice: TokenCounter | str | None, counter: TokenCounter) -> None:
        self._choice = choice
        self._counter = counter

    def __call__(self, _: Request[Any], /) -> TokenCounter:
        return self._counter

    def __reduce__(self) -> tuple[Any, ...]:
        return counter_choice, (self._choice,)


class _Chosen:
    """An exact counter where it can be had; the estimator where not."""

    __slots__ = ("__weakref__", "_counter", "_lock", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = fork_safe_lock()
        self._counter: TokenCounter | None = None

    def __repr__(self) -> str:
        return f"<counter of {self._name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _choose, (self._name,)

    @property
    def exact(self) -> bool:
        """Whether it is; looks for the tokenizer, and reads its vocabulary, if nobody has yet."""
        self.count(())
        return self._counter is not None and self._counter.exact

    def count(self, texts: Sequence[str], /) -> int:
        counter = self._counter
        if counter is not None:
            return counter.count(texts)
        try:
            counter = exact_counter(self._name)
            counted = counter.count(texts)
        except LamellaError as error:
            self._give_up(error)
            return ESTIMATOR.count(texts)
        self._counter = counter
        return counted

    def unseen(self, texts: Sequence[str], /) -> float:
        unseen = getattr(self._counter, "unseen", None)
        if unseen is None:
            return math.inf if self._counter is None else sum(map(len, texts))
        found: float = unseen(texts)
        return found

    def _give_up(self, error: LamellaError) -> None:
        with self._lock:
            first, self._counter = self._counter is None, ESTIMATOR
        if first:
            said = "Tokens of models with the tokenizer %r are estimated: %s"
            logger.warning(said, self._name, words_of(error))
