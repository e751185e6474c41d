"""Presidio's recognisers as a detector: through `PII`, without network, log, or a quoted text."""

from __future__ import annotations

import logging
import socket
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.nlp_engine import NoOpNlpEngine

from lamella import ChatRequest, ConfigurationError, InspectionError, Pipeline, registry
from lamella._fork_locks import fork_safe_lock
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.pii import PII
from lamella_presidio import PresidioDetector
from lamella_presidio._kinds import PATTERNS

pytestmark = pytest.mark.anyio

CARD = "4111 1111 1111 1111"
EMAIL = "ada@example.com"
TEXT = f"My card {CARD}, mail {EMAIL}, call (212) 555-0187."


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is looked up and nothing is connected to: not even by what swallows errors."""
    asked: list[object] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments[:1])
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert asked == []


class Names(EntityRecognizer):
    """Knows one name, as a model would; fails on one text, and logs it."""

    def __init__(self) -> None:
        super().__init__(supported_entities=["PERSON", "NRP", "DATE_TIME"], name="Names")

    def load(self) -> None:
        """Nothing is loaded."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any) -> list[Any]:
        log = logging.getLogger("presidio-analyzer")
        if "boom" in text:
            raise RuntimeError(f"cannot read {text!r}")
        if "slow" in text:
            try:
                raise TimeoutError(text)
            except TimeoutError:
                log.warning("Regex pattern '%s' timed out", "x", exc_info=True)
        log.error("Failed to validate text %s", text)
        found = []
        for name, entity in (("Ada", "PERSON"), ("Briton", "NRP"), ("Monday", "DATE_TIME")):
            start = text.find(name)
            if start >= 0 and entity in entities:
                found.append(RecognizerResult(entity, start, start + len(name), 0.85))
        return found


@pytest.fixture
def analyzer() -> Any:
    """An analyser of somebody's own, with a recogniser of names."""
    engine = NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "x"}])
    known = RecognizerRegistry(recognizers=[Names()], supported_languages=["en"])
    return AnalyzerEngine(registry=known, nlp_engine=engine, supported_languages=["en"])


async def asked(pii: PII, text: str, *, stream: bool = False) -> tuple[str, str]:
    """What the provider saw, and what came back."""
    told = Scripted([lambda request: "Said: " + request.messages[-1].text], repeat=True)
    pipeline = Pipeline([pii], told, ports=virtual_ports())
    request = ChatRequest.of(text, model="m")
    if stream:
        async with pipeline.stream(request) as response:
            answer = (await response.collect()).text
    else:
        answer = (await pipeline.run(request)).text
    first: Any = told.requests[0]
    return first.messages[0].text, answer


@pytest.mark.parametrize("stream", [False, True])
async def test_by_name_it_masks_and_restores(stream: bool) -> None:
    """`PII(detectors=["presidio"])` masks what Presidio finds, and gives it back."""
    seen, answer = await asked(PII(kinds=(), detectors=["presidio"]), TEXT, stream=stream)
    assert "4111" not in seen
    assert EMAIL not in seen
    assert "555-0187" not in seen
    assert "⟦CARD_" in seen
    assert "⟦PHONE_" in seen
    assert answer == f"Said: {TEXT}"


async def test_a_model_brings_names(analyzer: Any) -> None:
    """Names of people and groups are found with an analyser that knows them."""
    pii = PII(kinds=("email",), detectors=[PresidioDetector(analyzer)])
    seen, answer = await asked(pii, f"Ada is a Briton since Monday: {EMAIL}")
    assert [part.partition("_")[0] for part in seen.split("⟦")[1:]] == [
        "PERSON",
        "NATIONALITY",
        "EMAIL",
    ]
    assert "Monday" in seen  # a date is nobody's data by itself
    assert answer.endswith(EMAIL)


def test_a_file_can_say_it(tmp_path: Path) -> None:
    """A preset in `lamella.toml` names the detector, or gives options to it."""
    (tmp_path / "lamella.toml").write_text(
        '[presets.mine]\ntransport = "mock"\nlayers = [{ use = "pii", kinds = ["email"], '
        'detectors = ["presidio", { use = "presidio", entities = ["DATE_TIME"], '
        'names = { DATE_TIME = "when" }, score_threshold = 0.6 }] }]\n'
    )
    [pii] = Pipeline.preset("mine", config=tmp_path / "lamella.toml").layers
    assert isinstance(pii, PII)
    assert {"card", "phone", "when"} <= pii.finds


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"analyzer": "en_core_web_lg"}, "a str cannot analyse"),
        ({"entities": ["PERSON"]}, "no recogniser for PERSON in 'en'"),
        ({"entities": []}, "must be a list of Presidio's names"),
        ({"entities": "PERSON"}, "must be a list of Presidio's names"),
        ({"score_threshold": 1.5}, "score_threshold=1.5"),
        ({"language": ""}, "language=''"),
        ({"language": "xx", "entities": ["PERSON"]}, "no recogniser"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    """A mistake is an error when the detector is made, and says what to write."""
    with pytest.raises(ConfigurationError) as caught:
        PresidioDetector(**options)
    assert said in str(caught.value)


def test_scores_below_the_threshold_do_not_count() -> None:
    """A telephone number has 0.4 in Presidio."""
    kinds = {one.kind for one in PresidioDetector().find(TEXT)}
    assert {"card", "email", "phone"} <= kinds
    sure = {one.kind for one in PresidioDetector(score_threshold=0.9).find(TEXT)}
    assert sure == {"card", "email"}


@pytest.mark.parametrize("word", ["boom", "slow"])
async def test_a_failure_lets_nothing_through_and_quotes_nothing(
    analyzer: Any, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither an error nor a pattern that took too long passes for "there is nothing"."""
    caplog.set_level(logging.DEBUG)
    detector, text = PresidioDetector(analyzer), f"Ada says {word}"
    with pytest.raises(InspectionError) as caught:
        detector.find(text)
    assert caught.value.inspector == "presidio"
    assert "Ada" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(InspectionError) as refused:
        await asked(PII(kinds=("email",), detectors=[detector]), text)
    assert "Ada" not in "".join(traceback.format_exception(refused.value))
    assert "Ada" not in caplog.text


def test_its_log_quotes_no_text(analyzer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Presidio's own lines are dropped while it looks, in that thread; others stay."""
    caplog.set_level(logging.DEBUG)
    PresidioDetector(analyzer).find("Ada")
    PresidioDetector().find(f"GB00 {TEXT} GB82WEST1234569876543Ü")
    assert [r for r in caplog.records if r.name.startswith(("presidio", "decision"))] == []
    logging.getLogger("presidio-analyzer").warning("of its own")
    assert "of its own" in caplog.text


def test_many_threads_make_one_analyser_and_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to need it makes it; all find what one alone does."""
    made: list[str] = []
    guard = fork_safe_lock()
    from lamella_presidio import _analyzer

    real = _analyzer.own_analyzer

    def counted(language: str) -> Any:
        with guard:
            made.append(language)
        return real(language)

    monkeypatch.setattr(_analyzer, "own_analyzer", counted)
    detector = PresidioDetector()
    with ThreadPoolExecutor(8) as pool:
        every = list(pool.map(lambda _: tuple(detector.find(TEXT)), range(32)))
    assert len(set(every)) == 1
    assert every[0] != ()
    assert made == ["en"]


def test_kinds_without_an_analyser_import_nothing() -> None:
    """Naming the detector costs nothing: Presidio is imported when it looks at a text."""
    import subprocess

    code = (
        "import sys; from lamella import registry\n"
        "d = registry().make('detectors', 'presidio', {})\n"
        "assert {'card', 'phone', 'us_ssn'} <= set(d.kinds) and d.blocking\n"
        "assert not {'presidio_analyzer', 'spacy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_looked_for_is_what_presidio_has() -> None:
    """Every entity that is looked for by default is one of Presidio's."""
    assert PresidioDetector(entities=PATTERNS).kinds == PresidioDetector().kinds
    assert registry().origin("detectors", "presidio").startswith("lamella-presidio")
