"""OpenTelemetry: the names are those of the packages that have them."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
)
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.util.genai import _inference_invocation as inference
from opentelemetry.util.genai import _instruments as instruments

from lamella_opentelemetry import _conventions as names
from lamella_opentelemetry._conventions import CONVENTIONS, VERSIONS, Conventions

general: Any = import_module("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")


def values(module: Any) -> set[str]:
    """The texts that a module of constants has."""
    return {value for value in vars(module).values() if isinstance(value, str)}


def attributes(words: Conventions) -> set[str]:
    """The attributes that a version has names for."""
    fields = ("provider", "cache_read", "cache_write", "reasoning", "reasoning_level")
    found = {getattr(words, field) for field in fields} - {None}
    return found | {
        names.CHOICE_COUNT, names.CONVERSATION_ID, names.DIMENSIONS, names.OPERATION,
        names.OUTPUT_TYPE, names.REQUEST_MODEL, names.RESPONSE_FINISH_REASONS, names.RESPONSE_ID,
        names.RESPONSE_MODEL, names.TOP_K, names.USAGE_INPUT, names.USAGE_OUTPUT,
        *names.REQUEST_FIELDS.values(),
    }  # fmt: skip


def metrics(words: Conventions) -> set[str]:
    """The metrics that a version has names for."""
    fields = ("duration", "other_duration", "first_chunk", "per_chunk", "usage_histogram")
    return {name for field in fields if (name := getattr(words, field)) is not None}


def test_all_versions_are_there() -> None:
    """Under the names that the option takes."""
    assert tuple(CONVENTIONS) == VERSIONS
    assert all(version == words.version for version, words in CONVENTIONS.items())


@pytest.mark.parametrize("version", ["1.36", "1.41"])
def test_the_general_conventions_have_the_same_names(version: str) -> None:
    """Their package keeps them, as moved."""
    words = CONVENTIONS[version]
    known = values(general)
    assert attributes(words) <= known
    assert {names.REQUEST_STREAM, names.RESPONSE_FIRST_CHUNK, names.USAGE_TYPE} <= known
    assert {names.INPUT_MESSAGES, names.OUTPUT_MESSAGES} <= known
    assert metrics(words) <= values(gen_ai_metrics)
    assert words.schema_url in {schema.value for schema in Schemas}


def test_the_instrumentations_have_the_same_names() -> None:
    """What OpenTelemetry's own instrumentations write: attributes, metrics, buckets, the event."""
    words = CONVENTIONS["2026-10"]
    source = inspect.getsource(inference)
    known = values(general) | values(inference)
    assert attributes(words) - {words.cache_write, words.reasoning_level} <= values(general)
    assert attributes(words) <= known
    for modality in ("text", "audio", "image"):
        for direction in ("input", "output"):
            assert names.USAGE_MODALITY.format(modality=modality, direction=direction) in known
    assert f'"{names.DETAILS_EVENT}"' in source
    assert metrics(words) <= values(gen_ai_metrics)
    assert list(names.DURATION_BUCKETS) == instruments._GEN_AI_CLIENT_OPERATION_DURATION_BUCKETS
    assert list(names.TOKEN_BUCKETS) == instruments._GEN_AI_CLIENT_TOKEN_USAGE_BUCKETS


def test_the_newest_version_has_the_same_attributes() -> None:
    """Its metrics are others; no package has them yet."""
    newest, before = CONVENTIONS["2026-11"], CONVENTIONS["2026-10"]
    assert attributes(newest) == attributes(before)
    changed = {
        each.name
        for each in attrs.fields(Conventions)
        if getattr(newest, each.name) != getattr(before, each.name)
    }
    assert changed == {
        "version", "failed_reason", "duration", "first_chunk", "per_chunk", "usage_histogram",
        "usage_counters",
    }  # fmt: skip


def test_providers_are_called_as_the_conventions_call_them() -> None:
    """Every other name than a transport's own is one of theirs."""
    theirs = {each.value for each in general.GenAiProviderNameValues}
    assert set(names.PROVIDERS.values()) - {"moonshot_ai"} <= theirs
    assert {"openai", "anthropic", "groq", "deepseek", "cohere", "perplexity"} <= theirs
    assert {"chat", "embeddings"} <= {each.value for each in general.GenAiOperationNameValues}


def test_every_name_of_our_own_is_on_the_layers_page() -> None:
    """Whoever sees one in a backend finds what it means."""
    root = Path(__file__).parents[3]
    package = root / "plugins/opentelemetry/lamella_opentelemetry"
    ours = {
        name
        for file in package.glob("*.py")
        for name in re.findall(r'"(lamella\.[a-z_.]+)"', file.read_text())
    }
    page = (root / "docs/layers/opentelemetry.md").read_text()
    assert len(ours) > 20
    assert {name for name in ours if f"`{name}`" not in page} == set()


def test_what_is_not_of_generative_ai_is_called_as_elsewhere() -> None:
    """Servers, errors, statuses."""
    assert server_attributes.SERVER_ADDRESS == names.SERVER_ADDRESS
    assert server_attributes.SERVER_PORT == names.SERVER_PORT
    assert error_attributes.ERROR_TYPE == names.ERROR_TYPE
    assert http_attributes.HTTP_RESPONSE_STATUS_CODE == names.STATUS_CODE
