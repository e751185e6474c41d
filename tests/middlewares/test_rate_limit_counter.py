"""How RateLimit counts the tokens of requests: the counter it is given, or chooses."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from lamella import (
    CardBook,
    ChatRequest,
    ConfigurationError,
    EmbeddingRequest,
    LimitedError,
    ModelCard,
    NotBegunError,
    Pipeline,
    Registry,
    Request,
    UnknownNameError,
    counted_input,
    exact_counter,
    input_usage,
)
from lamella._registry import using
from lamella._token_estimate import ESTIMATOR
from lamella._tokens import INLINE_CHARACTERS
from lamella.testing import Scripted
from lamella_middlewares import RateLimit

pytestmark = pytest.mark.anyio


class Letters:
    """One token for each letter; knows which threads counted."""

    def __init__(self) -> None:
        self.threads: list[bool] = []

    @property
    def exact(self) -> bool:
        return True

    def count(self, texts: Sequence[str], /) -> int:
        self.threads.append(threading.current_thread() is threading.main_thread())
        return sum(map(len, texts))


class Known(Letters):
    """One that remembers all texts."""

    def unseen(self, texts: Sequence[str], /) -> int:
        return 0


def ask(letters: int) -> ChatRequest:
    """A request with so many letters."""
    return ChatRequest.of("x" * letters, model="m", max_output_tokens=1)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """Limits that no other test counts in."""
    return str(request.node.name)


async def let_through(layer: RateLimit, *requests: Request[Any]) -> int:
    """How many of the requests find room at once."""
    count = 0
    async with Pipeline([layer], transport=Scripted(["ok"], repeat=True)) as pipeline:
        for request in requests:
            try:
                await pipeline.run(request)
            except LimitedError:
                continue
            count += 1
    return count


async def test_a_long_text_is_counted_in_a_thread_and_a_short_one_is_not(namespace: str) -> None:
    """The event loop is not held up, and a thread is only started where it pays."""
    counter = Letters()
    layer = RateLimit(input_tokens=10**9, counter=counter, namespace=namespace)
    await let_through(layer, ask(100), ask(INLINE_CHARACTERS + 1))
    assert counter.threads == [True, False]


async def test_a_counter_may_say_that_it_knows_a_text(namespace: str) -> None:
    """Then no thread is started, however long it is."""
    counter = Known()
    layer = RateLimit(input_tokens=10**9, counter=counter, namespace=namespace)
    await let_through(layer, ask(10 * INLINE_CHARACTERS))
    assert counter.threads == [True]


async def test_tools_and_results_count_as_text_too(namespace: str) -> None:
    """A long answer of a tool is as long as a long message."""
    counter = Letters()
    result = {"role": "tool", "tool_call_id": "1", "content": "r" * (INLINE_CHARACTERS + 1)}
    layer = RateLimit(input_tokens=10**9, counter=counter, namespace=namespace)
    await let_through(layer, ChatRequest.of([result], model="m", max_output_tokens=1))
    assert counter.threads == [False]


async def test_counting_gives_the_same_wherever_it_is_done() -> None:
    """`counted_input` is `input_usage`, off the loop; a long text needs a call that has begun."""
    short, none = ask(10), Request[Any](model="m")
    assert await counted_input(short, Letters()) == input_usage(short, Letters())
    assert await counted_input(short) == input_usage(short)
    assert await counted_input(none) is None
    vectors = EmbeddingRequest.of(["some words", "more"], model="m")
    assert await counted_input(vectors, Letters()) == input_usage(vectors, Letters())
    with pytest.raises(NotBegunError):
        await counted_input(ask(INLINE_CHARACTERS + 1), Letters())


async def test_a_tokenizer_is_chosen_by_name(namespace: str) -> None:
    """One that cannot be had is an error when the layer is made."""
    with using(Registry((), allow=())) as registry:
        registry.add(tokenizers={"letters": Letters, "none": no_vocabulary})
        layer = RateLimit(input_tokens=60, counter="letters", max_wait=0, namespace=namespace)
        assert await let_through(layer, ask(40), ask(40)) == 1
        assert repr(pickle.loads(pickle.dumps(layer))) == repr(layer)
        with pytest.raises(UnknownNameError, match="lettres"):
            RateLimit(input_tokens=60, counter="lettres")
        with pytest.raises(ConfigurationError, match="no vocabulary"):
            RateLimit(input_tokens=60, counter="none")


def no_vocabulary() -> Any:
    """A tokenizer's maker that finds nothing."""
    raise ConfigurationError("There is no vocabulary here.")


async def test_auto_counts_by_each_requests_model(
    namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its card; where there is none, or its tokenizer cannot be had, by the estimator."""
    book = CardBook()
    book.register(
        ModelCard("lettered", "scripted", tokenizer="letters"),
        ModelCard("wordless", "scripted", tokenizer="none"),
    )
    monkeypatch.setattr("lamella._target_fitness.shared_cards", lambda: book)
    estimated = input_usage(ask(4_000))
    assert estimated is not None
    assert estimated.input_tokens < 2_000
    with using(Registry((), allow=())) as registry, caplog.at_level(logging.WARNING, "lamella"):
        registry.add(tokenizers={"letters": Letters, "none": no_vocabulary})
        layer = RateLimit(
            input_tokens=4_000, counter="auto", max_wait=0, key="model", namespace=namespace
        )
        for model, most in (("lettered", 0), ("wordless", 2), ("unknown", 2)):
            request = ask(4_000).evolve(model=model)
            assert await let_through(layer, request, request) == most
    assert len(caplog.records) == 1
    assert pickle.loads(pickle.dumps(layer)) == layer


async def test_an_exact_counter_remembers_what_it_has_counted(namespace: str) -> None:
    """The second request of a long conversation is counted on the loop, at once."""

    class Vocabulary:
        asked = 0

        def encode_ordinary(self, text: str) -> str:
            self.asked += len(text)
            return text

    vocabulary = Vocabulary()
    counter = exact_counter(vocabulary)
    assert counter.count(["x"]) == 1
    vocabulary.asked = 0
    layer = RateLimit(input_tokens=10**9, counter=counter, namespace=namespace)
    history = [{"role": "user", "content": letter * 30_000} for letter in "abc"]
    more = [*history, {"role": "user", "content": "d" * 50}]
    await let_through(
        layer, *[ChatRequest.of(each, model="m", max_output_tokens=1) for each in (history, more)]
    )
    assert vocabulary.asked == 90_050


@pytest.mark.parametrize("wrong", [3, "", [], {"use": "x"}])
def test_what_is_no_counter_is_refused(wrong: Any) -> None:
    """The message says what is one."""
    with pytest.raises(ConfigurationError, match="a tokenizer's name, 'auto' or None"):
        RateLimit(input_tokens=1, counter=wrong)


def test_the_estimator_is_the_default() -> None:
    """It needs nothing."""
    assert RateLimit(tokens=1).counter is None
    assert RateLimit(tokens=1, counter=ESTIMATOR).counter is ESTIMATOR


def test_a_layer_from_a_file_takes_a_tokenizers_name() -> None:
    """As `counter = "auto"` in a preset."""
    made = Registry(allow=()).make("middlewares", "rate_limit", {"tokens": 5, "counter": "auto"})
    assert made.counter == "auto"
