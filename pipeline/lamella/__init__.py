"""Dependable calls to language models: small, independent layers around a provider transport."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lamella._answer import Answer
from lamella._attempts import Attempt, AttemptBound, OpenAttempt
from lamella._background import Background
from lamella._begin import begin
from lamella._chat import ChatRequest, ChatResponse
from lamella._chat_answer import ChatAnswer, Choice, message_events
from lamella._clock import Clock
from lamella._context import Context
from lamella._embeddings import EmbeddingAnswer, EmbeddingRequest, EmbeddingResponse
from lamella._ending import Callback, Ending, ending, outcome_of
from lamella._errors import (
    ApprovalRequired,
    AttemptLimitError,
    AttemptTimeout,
    AuditError,
    AuthenticationError,
    BlockedError,
    BudgetExceededError,
    BusyError,
    CacheMissError,
    CallEndedError,
    CertificateError,
    CircuitOpenError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeout,
    ContentFilteredError,
    ContextLengthError,
    CredentialsExhaustedError,
    DeadlineExceeded,
    ErrorData,
    FirstEventTimeout,
    IdleTimeout,
    InspectionError,
    InvalidRequestError,
    JournalError,
    LamellaError,
    LimitedError,
    MapStoppedError,
    MisuseError,
    NetworkError,
    NoTargetError,
    NotBegunError,
    NotFoundError,
    OrderError,
    OverloadedError,
    PermissionDeniedError,
    PluginError,
    ProtocolError,
    ProviderError,
    QuotaError,
    RateLimitError,
    RefusedError,
    ResponseTooLargeError,
    RowError,
    SecretError,
    ServerError,
    StillOpenError,
    StoreUnavailableError,
    StreamTruncated,
    StructureError,
    SummariseError,
    TargetsFailedError,
    TemplateError,
    TimedOutError,
    ToolLimitError,
    UnknownNameError,
    UnsupportedError,
    WriteTimeout,
)
from lamella._events import (
    Event,
    Finish,
    MediaDelta,
    Moderation,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenCount,
    ToolCallDelta,
    Turn,
    UsageReport,
    Vector,
)
from lamella._fingerprints import inside
from lamella._handlers import (
    ChatMiddleware,
    ChatTransport,
    EmbeddingMiddleware,
    EmbeddingTransport,
    Handler,
    Layer,
    Middleware,
    ModerationMiddleware,
    ModerationTransport,
    TokenCountMiddleware,
    TokenCountTransport,
    Transport,
)
from lamella._layers import Effect, LayerInfo, Phase, middleware
from lamella._lazy import lazily, show_public_address
from lamella._limits import Limits
from lamella._loops import PerLoop, Waiter
from lamella._many import Progress
from lamella._messages import Content, Message
from lamella._moderation import (
    ModerationAnswer,
    ModerationInput,
    ModerationRequest,
    ModerationResponse,
)
from lamella._money import Money
from lamella._observers import AttemptObserver, observed
from lamella._order import Doubt
from lamella._outcomes import ErrorPhase, Outcome
from lamella._parts import (
    Audio,
    File,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from lamella._pipeline import Pipeline
from lamella._ports import Ports
from lamella._requests import Request
from lamella._responses import Head, Response
from lamella._stores import (
    Blob,
    BlobInfo,
    BlobPage,
    BlobStore,
    Dimension,
    Lease,
    LeaseStore,
    LocalState,
    Stores,
)
from lamella._targets import Target
from lamella._token_counts import TokenCountAnswer, TokenCountRequest, TokenCountResponse
from lamella._tools import Tool
from lamella._trace import Note, Span, Trace
from lamella._transforms import Source, Transform
from lamella._usage import Usage

if TYPE_CHECKING:
    from lamella._bulk_block import RowOptions, answer_rows
    from lamella._bulk_map import MapRun, SyncMapRun
    from lamella._bulk_report import MapProgress, MapReport
    from lamella._bulk_results import MapResult
    from lamella._card_book import CardBook
    from lamella._cards import CardPatch, ModelCard
    from lamella._conversation import Conversation
    from lamella._conversation_entries import ConversationBranch, ConversationEntry
    from lamella._conversation_records import ConversationRecord
    from lamella._conversation_stores import ConversationInfo, ConversationStore
    from lamella._detection import Detector, Finding
    from lamella._explain import ExplainedLayer, Explanation
    from lamella._guarded_blobs import GuardedBlobs
    from lamella._health import Health, PartHealth
    from lamella._history import Group, answered, groups, unanswered
    from lamella._image_tokens import CropRule, ImageRule, LevelRule, PatchRule, TileRule
    from lamella._memory_spend import MemorySpend
    from lamella._memory_stores import memory_blobs
    from lamella._memory_vectors import MemoryVectors
    from lamella._packing import Packing
    from lamella._parameter_rules import ParameterRule
    from lamella._preset_records import Preset
    from lamella._price_sources import PriceSource, Pricing
    from lamella._prices import Price, UnpricedError
    from lamella._prompt_caching import PromptCaching
    from lamella._prompts import Prompt
    from lamella._provided import provided
    from lamella._readings import Reading, pipelines_of, readings
    from lamella._registry import Registry, registry
    from lamella._request_keys import request_key
    from lamella._returns import Returns
    from lamella._scrub import scrub
    from lamella._scrub_logging import ScrubFilter, scrub_event
    from lamella._secrets import Secret
    from lamella._shared_cards import shared_cards
    from lamella._shortening import History, Shortener
    from lamella._shortening_strategies import DropToolResults, SlidingWindow, Truncate
    from lamella._shown import Shown
    from lamella._sizes import Size
    from lamella._spend_checks import storable
    from lamella._spend_records import (
        SpendQuery,
        SpendRecord,
        SpendStore,
        SpendTotal,
    )
    from lamella._sqlite_blobs import SQLiteBlobs, sqlite_blobs
    from lamella._sqlite_conversations import SQLiteConversations
    from lamella._sqlite_leases import SQLiteLeases, sqlite_leases
    from lamella._sqlite_spend import SQLiteSpend, sqlite_spend
    from lamella._store_outages import GuardedLeases
    from lamella._surfaces import Change, Surface, map_texts
    from lamella._tally import CacheStats
    from lamella._template_library import PromptLibrary
    from lamella._templates import PromptTemplate
    from lamella._text_channels import Channel, TextChannels, TextFilter
    from lamella._tokenizers import counter_for, exact_counter
    from lamella._tokens import TokenCounter, counted_input, input_usage, output_usage
    from lamella._trace_records import TraceRecord
    from lamella._typed_forms import Form, form_of
    from lamella._typed_problems import FormError, Problem
    from lamella._values import ValueDecoder, ValueReader, Values
    from lamella._vector_index import Near, VectorIndex

_LAZY = {
    "CacheStats": "_tally",
    "CardBook": "_card_book",
    "CardPatch": "_cards",
    "Change": "_surfaces",
    "Channel": "_text_channels",
    "Conversation": "_conversation",
    "ConversationBranch": "_conversation_entries",
    "ConversationEntry": "_conversation_entries",
    "ConversationInfo": "_conversation_stores",
    "ConversationRecord": "_conversation_records",
    "ConversationStore": "_conversation_stores",
    "CropRule": "_image_tokens",
    "Detector": "_detection",
    "DropToolResults": "_shortening_strategies",
    "ExplainedLayer": "_explain",
    "Explanation": "_explain",
    "Finding": "_detection",
    "Form": "_typed_forms",
    "FormError": "_typed_problems",
    "Group": "_history",
    "GuardedBlobs": "_guarded_blobs",
    "GuardedLeases": "_store_outages",
    "Health": "_health",
    "History": "_shortening",
    "ImageRule": "_image_tokens",
    "LevelRule": "_image_tokens",
    "MapProgress": "_bulk_report",
    "MapReport": "_bulk_report",
    "MapResult": "_bulk_results",
    "MapRun": "_bulk_map",
    "MemorySpend": "_memory_spend",
    "MemoryVectors": "_memory_vectors",
    "ModelCard": "_cards",
    "Near": "_vector_index",
    "Packing": "_packing",
    "ParameterRule": "_parameter_rules",
    "PartHealth": "_health",
    "PatchRule": "_image_tokens",
    "Preset": "_preset_records",
    "Price": "_prices",
    "PriceSource": "_price_sources",
    "Pricing": "_price_sources",
    "Problem": "_typed_problems",
    "Prompt": "_prompts",
    "PromptCaching": "_prompt_caching",
    "PromptLibrary": "_template_library",
    "PromptTemplate": "_templates",
    "Reading": "_readings",
    "Registry": "_registry",
    "Returns": "_returns",
    "RowOptions": "_bulk_block",
    "SQLiteBlobs": "_sqlite_blobs",
    "SQLiteConversations": "_sqlite_conversations",
    "SQLiteLeases": "_sqlite_leases",
    "SQLiteSpend": "_sqlite_spend",
    "ScrubFilter": "_scrub_logging",
    "Secret": "_secrets",
    "Shortener": "_shortening",
    "Shown": "_shown",
    "Size": "_sizes",
    "SlidingWindow": "_shortening_strategies",
    "SpendQuery": "_spend_records",
    "SpendRecord": "_spend_records",
    "SpendStore": "_spend_records",
    "SpendTotal": "_spend_records",
    "Surface": "_surfaces",
    "SyncMapRun": "_bulk_map",
    "TextChannels": "_text_channels",
    "TextFilter": "_text_channels",
    "TileRule": "_image_tokens",
    "TokenCounter": "_tokens",
    "TraceRecord": "_trace_records",
    "Truncate": "_shortening_strategies",
    "UnpricedError": "_prices",
    "ValueDecoder": "_values",
    "ValueReader": "_values",
    "Values": "_values",
    "VectorIndex": "_vector_index",
    "answer_rows": "_bulk_block",
    "answered": "_history",
    "counted_input": "_tokens",
    "counter_for": "_tokenizers",
    "exact_counter": "_tokenizers",
    "form_of": "_typed_forms",
    "groups": "_history",
    "input_usage": "_tokens",
    "map_texts": "_surfaces",
    "memory_blobs": "_memory_stores",
    "output_usage": "_tokens",
    "pipelines_of": "_readings",
    "provided": "_provided",
    "readings": "_readings",
    "registry": "_registry",
    "request_key": "_request_keys",
    "scrub": "_scrub",
    "scrub_event": "_scrub_logging",
    "shared_cards": "_shared_cards",
    "sqlite_blobs": "_sqlite_blobs",
    "sqlite_leases": "_sqlite_leases",
    "sqlite_spend": "_sqlite_spend",
    "storable": "_spend_checks",
    "unanswered": "_history",
}
"""Public names that few programs need, by the module that is loaded when one is used."""

__all__ = (
    "Answer",
    "ApprovalRequired",
    "Attempt",
    "AttemptBound",
    "AttemptLimitError",
    "AttemptObserver",
    "AttemptTimeout",
    "Audio",
    "AuditError",
    "AuthenticationError",
    "Background",
    "Blob",
    "BlobInfo",
    "BlobPage",
    "BlobStore",
    "BlockedError",
    "BudgetExceededError",
    "BusyError",
    "CacheMissError",
    "CacheStats",
    "CallEndedError",
    "Callback",
    "CardBook",
    "CardPatch",
    "CertificateError",
    "Change",
    "Channel",
    "ChatAnswer",
    "ChatMiddleware",
    "ChatRequest",
    "ChatResponse",
    "ChatTransport",
    "Choice",
    "CircuitOpenError",
    "Clock",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLostError",
    "Content",
    "ContentFilteredError",
    "Context",
    "ContextLengthError",
    "Conversation",
    "ConversationBranch",
    "ConversationEntry",
    "ConversationInfo",
    "ConversationRecord",
    "ConversationStore",
    "CredentialsExhaustedError",
    "CropRule",
    "DeadlineExceeded",
    "Detector",
    "Dimension",
    "Doubt",
    "DropToolResults",
    "Effect",
    "EmbeddingAnswer",
    "EmbeddingMiddleware",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "EmbeddingTransport",
    "Ending",
    "ErrorData",
    "ErrorPhase",
    "Event",
    "ExplainedLayer",
    "Explanation",
    "File",
    "Finding",
    "Finish",
    "FirstEventTimeout",
    "Form",
    "FormError",
    "Group",
    "GuardedBlobs",
    "GuardedLeases",
    "Handler",
    "Head",
    "Health",
    "History",
    "IdleTimeout",
    "Image",
    "ImageRule",
    "InspectionError",
    "InvalidRequestError",
    "JournalError",
    "LamellaError",
    "Layer",
    "LayerInfo",
    "Lease",
    "LeaseStore",
    "LevelRule",
    "LimitedError",
    "Limits",
    "LocalState",
    "MapProgress",
    "MapReport",
    "MapResult",
    "MapRun",
    "MapStoppedError",
    "MediaDelta",
    "MemorySpend",
    "MemoryVectors",
    "Message",
    "Middleware",
    "MisuseError",
    "ModelCard",
    "Moderation",
    "ModerationAnswer",
    "ModerationInput",
    "ModerationMiddleware",
    "ModerationRequest",
    "ModerationResponse",
    "ModerationTransport",
    "Money",
    "Near",
    "NetworkError",
    "NoTargetError",
    "NotBegunError",
    "NotFoundError",
    "Note",
    "Opaque",
    "OpenAttempt",
    "OrderError",
    "Outcome",
    "OverloadedError",
    "Packing",
    "ParameterRule",
    "Part",
    "PartHealth",
    "PatchRule",
    "PerLoop",
    "PermissionDeniedError",
    "Phase",
    "Pipeline",
    "PluginError",
    "Ports",
    "Preset",
    "Price",
    "PriceSource",
    "Pricing",
    "Problem",
    "Progress",
    "Prompt",
    "PromptCaching",
    "PromptLibrary",
    "PromptTemplate",
    "ProtocolError",
    "ProviderError",
    "QuotaError",
    "RateLimitError",
    "Reading",
    "Reasoning",
    "ReasoningDelta",
    "Refusal",
    "RefusalDelta",
    "RefusedError",
    "Registry",
    "Request",
    "Response",
    "ResponseTooLargeError",
    "Returns",
    "RowError",
    "RowOptions",
    "SQLiteBlobs",
    "SQLiteConversations",
    "SQLiteLeases",
    "SQLiteSpend",
    "ScrubFilter",
    "Secret",
    "SecretError",
    "ServerError",
    "Shortener",
    "Shown",
    "Size",
    "SlidingWindow",
    "Source",
    "Span",
    "SpendQuery",
    "SpendRecord",
    "SpendStore",
    "SpendTotal",
    "StillOpenError",
    "StoreUnavailableError",
    "Stores",
    "StreamTruncated",
    "StructureError",
    "SummariseError",
    "Surface",
    "SyncMapRun",
    "Target",
    "TargetsFailedError",
    "TemplateError",
    "Text",
    "TextChannels",
    "TextDelta",
    "TextFilter",
    "TileRule",
    "TimedOutError",
    "TokenCount",
    "TokenCountAnswer",
    "TokenCountMiddleware",
    "TokenCountRequest",
    "TokenCountResponse",
    "TokenCountTransport",
    "TokenCounter",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolLimitError",
    "ToolResult",
    "Trace",
    "TraceRecord",
    "Transform",
    "Transport",
    "Truncate",
    "Turn",
    "UnknownNameError",
    "UnpricedError",
    "UnsupportedError",
    "Usage",
    "UsageReport",
    "ValueDecoder",
    "ValueReader",
    "Values",
    "Vector",
    "VectorIndex",
    "Waiter",
    "WriteTimeout",
    "answer_rows",
    "answered",
    "begin",
    "counted_input",
    "counter_for",
    "ending",
    "exact_counter",
    "form_of",
    "groups",
    "input_usage",
    "inside",
    "map_texts",
    "memory_blobs",
    "message_events",
    "middleware",
    "observed",
    "outcome_of",
    "output_usage",
    "pipelines_of",
    "provided",
    "readings",
    "registry",
    "request_key",
    "scrub",
    "scrub_event",
    "shared_cards",
    "sqlite_blobs",
    "sqlite_leases",
    "sqlite_spend",
    "storable",
    "unanswered",
)


for _name in __all__:
    if _name not in _LAZY:
        show_public_address(globals()[_name], __name__)

_get, __dir__ = lazily(__name__, _LAZY)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        metadata = importlib.import_module("importlib.metadata")  # a quarter of the whole import
        return metadata.version("lamella")
    return _get(name)
