"""The names that OpenTelemetry's conventions for generative AI give to things, by version.

They are written down here rather than imported: the package of constants marks all of these as
moved elsewhere, and no package has those of their new home yet. The tests compare with what
packages there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

import attrs

Version: TypeAlias = Literal["1.36", "1.41", "2026-10", "2026-11"]
"""A state of the conventions; see `CONVENTIONS` for what each is."""

VERSIONS: Final[tuple[str, ...]] = get_args(Version)

CONVERSATION_ID: Final = "gen_ai.conversation.id"
DIMENSIONS: Final = "gen_ai.embeddings.dimension.count"
ERROR_TYPE: Final = "error.type"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OPERATION: Final = "gen_ai.operation.name"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
STATUS_CODE: Final = "http.response.status_code"
MODALITY: Final = "gen_ai.token.modality"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
USAGE_TYPE: Final = "gen_ai.token.type"
USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
USAGE_MODALITY: Final = "gen_ai.usage.{modality}.{direction}_tokens"

DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"

REQUEST_FIELDS: Final[Mapping[str, str]] = {
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
}
"""Attributes that are a field of the request as it stands. Texts at which it stops are not among
them: they are the caller's words."""

CHOICE_COUNT: Final = "gen_ai.request.choice.count"
TOP_K: Final = "gen_ai.request.top_k"
REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"

PROVIDERS: Final[Mapping[str, str]] = {
    "azure": "azure.ai.openai",
    "azure-ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""Transports whose providers the conventions call something else."""

DURATION_BUCKETS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))


@attrs.frozen(kw_only=True)
class Conventions:
    """What one version calls things; None where it has no name for one.

    Attributes:
        version: Which it is.
        schema_url: Where it is described to programs.
        provider: The attribute for who is asked.
        cache_read: The attribute for tokens that the provider's cache served.
        cache_write: The attribute for tokens written to it.
        reasoning: The attribute for tokens of reasoning.
        reasoning_level: The attribute for how much reasoning is asked for.
        streams: Whether it has attributes for streams.
        modalities: Whether tokens are told apart by what they stand for.
        messages: Whether it has attributes for content.
        failed_reason: What stands for the reason of an answer that never finished.
        duration: The histogram of how long inference took.
        other_duration: That of other operations.
        first_chunk: The histogram of the time to the first chunk.
        per_chunk: The histogram of the time between chunks.
        usage_histogram: The histogram of tokens by type.
        usage_counters: What the names of counters of tokens begin with.
    """

    version: str
    schema_url: str | None = None
    provider: str = "gen_ai.provider.name"
    cache_read: str | None = "gen_ai.usage.cache_read.input_tokens"
    cache_write: str | None = "gen_ai.usage.cache_write.input_tokens"
    reasoning: str | None = "gen_ai.usage.reasoning.output_tokens"
    reasoning_level: str | None = REASONING_LEVEL
    streams: bool = True
    modalities: bool = True
    messages: bool = True
    failed_reason: str | None = None
    duration: str = "gen_ai.client.operation.duration"
    other_duration: str = "gen_ai.client.operation.duration"
    first_chunk: str | None = "gen_ai.client.operation.time_to_first_chunk"
    per_chunk: str | None = "gen_ai.client.operation.time_per_output_chunk"
    usage_histogram: str | None = "gen_ai.client.token.usage"
    usage_counters: str | None = None


CONVENTIONS: Final[Mapping[str, Conventions]] = {
    # Before the names were turned over; what many backends still expect.
    "1.36": Conventions(
        version="1.36",
        schema_url="https://opentelemetry.io/schemas/1.36.0",
        provider="gen_ai.system",
        cache_read=None,
        cache_write=None,
        reasoning=None,
        reasoning_level=None,
        streams=False,
        modalities=False,
        messages=False,
        first_chunk=None,
        per_chunk=None,
    ),
    # The last of the general conventions that had these names.
    "1.41": Conventions(
        version="1.41",
        schema_url="https://opentelemetry.io/schemas/1.41.0",
        cache_write="gen_ai.usage.cache_creation.input_tokens",
        reasoning_level=None,
        modalities=False,
    ),
    # The GenAI conventions' own repository, as OpenTelemetry's Python instrumentations write it
    # (opentelemetry-util-genai 1.3b0 of 23 October 2026).
    "2026-10": Conventions(version="2026-10"),
    # The same repository in November 2026: attributes alike, metrics renamed and split.
    "2026-11": Conventions(
        version="2026-11",
        failed_reason="error",
        duration="gen_ai.client.inference.duration",
        first_chunk="gen_ai.client.inference.time_to_first_chunk",
        per_chunk="gen_ai.client.inference.time_per_output_chunk",
        usage_histogram=None,
        usage_counters="gen_ai.client.inference.usage.",
    ),
}
