"""The detector: an analyser of Presidio that gives findings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, cast

import attrs

from lamella import ConfigurationError, Finding, InspectionError
from lamella._fork_locks import fork_safe_lock
from lamella._options import is_number
from lamella_presidio._kinds import KINDS, NOBODYS, PATTERNS, kind_of
from lamella_presidio._silence import silence

NAME: Final = "presidio"


def _listed(value: Any) -> Any:
    """Entities as a tuple, each once; what is no list stays, to be refused."""
    if not isinstance(value, (list, tuple, set, frozenset)):
        return value
    return tuple(dict.fromkeys(cast("Iterable[Any]", value)))


def _analyses(_: object, __: object, value: Any) -> None:
    if value is not None and not callable(getattr(value, "analyze", None)):
        msg = f"PresidioDetector(analyzer=...): a {type(value).__name__} cannot analyse."
        raise ConfigurationError(msg, hint="Give an AnalyzerEngine, or leave it out.")


def _words(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    if (
        not isinstance(value, tuple)
        or not value
        or not all(map(_is_word, cast("Iterable[Any]", value)))
    ):
        msg = f"PresidioDetector(entities={value!r}) must be a list of Presidio's names."
        raise ConfigurationError(msg, hint='Such as ["PERSON", "LOCATION"]; None is the usual.')


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _share(_: object, __: object, value: Any) -> None:
    if not is_number(value) or not 0 <= value <= 1:
        msg = f"PresidioDetector(score_threshold={value!r}) must be a number from 0 to 1."
        raise ConfigurationError(msg)


def _language(_: object, __: object, value: Any) -> None:
    if not _is_word(value):
        msg = f'PresidioDetector(language={value!r}) must be a language, such as "en".'
        raise ConfigurationError(msg)


@attrs.frozen(eq=False)
class PresidioDetector:
    """Finds what Presidio's recognisers find. Thread-safe, and slow: it runs in a thread.

    Args:
        analyzer: An `AnalyzerEngine`; with a model, it finds names of people and places. It is used
            in several threads at once, as in Presidio's own server. None makes one when it is first
            needed, with the recognisers that need no model and no network.
        language: In which language texts are: one that the analyser knows.
        entities: What to look for, in Presidio's words. None is all that the analyser knows in this
            language, but for `DATE_TIME`, `URL` and `UUID`, which are nobody's data by themselves;
            without an analyser, what is found by patterns (`lamella_presidio._kinds.PATTERNS`).
        score_threshold: The lowest score that counts, 0 to 1. Presidio's score is no probability:
            a telephone number has 0.4, whatever is beside it; dates and bare numbers that might be
            anything have less.
        names: What entities are called here, where the usual is not wanted: `{"NRP": "group"}`.

    Attributes:
        blocking: True: `PII` asks it in a thread.

    Raises:
        ConfigurationError: If one of these cannot be, or if the analyser cannot find one of the
            entities. To know that, entities without an analyser make one here, which takes a second
            or two.
    """

    blocking: ClassVar[bool] = True
    name: ClassVar[str] = NAME

    analyzer: Any = attrs.field(default=None, validator=_analyses, repr=False)
    language: str = attrs.field(default="en", validator=_language)
    entities: Sequence[str] | None = attrs.field(
        default=None, converter=_listed, validator=_words, kw_only=True
    )
    score_threshold: float = attrs.field(default=0.4, validator=_share, kw_only=True)
    names: Mapping[str, str] = attrs.field(factory=dict[str, str], kw_only=True)
    _made: list[Any] = attrs.field(init=False, factory=list[Any], repr=False)
    _lock: Any = attrs.field(init=False, factory=fork_safe_lock, repr=False)

    def __attrs_post_init__(self) -> None:
        """Look whether what is to be found can be."""
        if self.entities is None:
            return
        known = self._known()
        if unknown := sorted(set(self.entities) - known):
            raise ConfigurationError(
                f"PresidioDetector(entities=...): no recogniser for {', '.join(unknown)} in "
                f"{self.language!r}.",
                hint=f"It has {', '.join(sorted(known))}. Names of people take an analyser with "
                "a model.",
            )

    @property
    def kinds(self) -> Collection[str]:
        """What it may find."""
        return tuple(sorted({kind_of(entity, self.names) for entity in self._wanted()}))

    def find(self, text: str, /) -> list[Finding]:
        """What Presidio finds in a text, in its order.

        Raises:
            InspectionError: If Presidio fails, or leaves out a pattern that took too long. Neither
                the error nor what led to it quotes the text.
        """
        found: list[Any] = []
        try:
            engine = self._engine()
            with silence() as heard:
                found = engine.analyze(
                    text,
                    language=self.language,
                    entities=self._asked(engine),
                    score_threshold=self.score_threshold,
                    return_decision_process=False,
                )
            problem = heard[0] if heard else None
        except Exception as error:  # noqa: BLE001 - recognisers are anybody's, and may quote the text
            problem = type(error).__name__
        if problem is None:
            return [
                Finding(one.start, one.end, kind_of(one.entity_type, self.names), _score(one))
                for one in found
                if one.start < one.end
            ]
        failure = InspectionError(
            f"Presidio could not look into a text of {len(text)} characters ({problem}).",
            hint="Nothing of it was let through. Try the analyser on a text like it.",
        )
        failure.inspector = NAME
        raise failure

    def _wanted(self) -> Collection[str]:
        """What to look for, without making an analyser."""
        if self.entities is not None:
            return self.entities
        return PATTERNS if self.analyzer is None else self._known() - NOBODYS

    def _asked(self, engine: Any) -> list[str]:
        """What to ask the analyser for: it warns of what it does not know."""
        if self.analyzer is not None or self.entities is not None:
            return sorted(self._wanted())
        return sorted(set(PATTERNS) & set(engine.get_supported_entities(self.language)))

    def _known(self) -> set[str]:
        with silence():
            known = set(self._engine().get_supported_entities(self.language))
        if not known:
            raise ConfigurationError(
                f"PresidioDetector(language={self.language!r}): the analyser has no recogniser "
                "for it.",
                hint="Give the analyser's language.",
            )
        return known

    def _engine(self) -> Any:
        if self.analyzer is not None:
            return self.analyzer
        if not self._made:
            with self._lock:
                if not self._made:
                    from lamella_presidio._analyzer import own_analyzer

                    with silence():
                        self._made.append(own_analyzer(self.language))
        return self._made[0]


def _score(result: Any) -> float:
    return min(1.0, max(0.0, float(result.score)))


__all__ = ["KINDS", "PresidioDetector"]
