"""Presidio's own analyser, made such that it needs no model and asks no network."""

from __future__ import annotations

from typing import Any


def own_analyzer(language: str) -> Any:
    """An analyser with Presidio's predefined recognisers for a language, without a model.

    Presidio's default would download a model. Without one, words beside a number do not make it
    surer, and no names are found.
    """
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NoOpNlpEngine

    engine = NoOpNlpEngine(models=[{"lang_code": language, "model_name": "none"}])
    known: Any = RecognizerRegistry(supported_languages=[language])
    known.load_predefined_recognizers(languages=[language], nlp_engine=engine)
    known.recognizers = [_offline(one, language) for one in known.recognizers]
    return AnalyzerEngine(
        registry=known,
        nlp_engine=engine,
        supported_languages=[language],
        log_decision_process=False,
    )


def _offline(recognizer: Any, language: str) -> Any:
    """The recogniser; of e-mail addresses, one that fetches no list of domains.

    The one of Presidio asks publicsuffix.org for the newest list, and writes it to the user's
    cache; the list that comes with tldextract does as well.
    """
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    if type(recognizer) is not EmailRecognizer:
        return recognizer
    from tldextract import TLDExtract

    extract = TLDExtract(suffix_list_urls=(), cache_dir=None)

    class OfflineEmailRecognizer(EmailRecognizer):
        def validate_result(self, pattern_text: str) -> bool:
            return bool(extract(pattern_text).fqdn)

    given: Any = recognizer
    return OfflineEmailRecognizer(
        patterns=given.patterns, context=given.context, supported_language=language
    )
