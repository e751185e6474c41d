"""Dependable calls to language models: small, independent layers around a provider transport."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lamella._answer import Answer
from lamella._attempts import Attempt, AttemptBound, OpenAttempt
from lamella._background import Background
from lamella._begin import begin
from lamella._bulk_errors import JournalError, MapStoppedError, RowError
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
    LamellaError,
    LimitedError,
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
    name: home
    for home, names in {
        "_bulk_block": "RowOptions answer_rows",
        "_bulk_map": "MapRun SyncMapRun",
        "_bulk_report": "MapProgress MapReport",
        "_bulk_results": "MapResult",
        "_card_book": "CardBook",
        "_cards": "CardPatch ModelCard",
        "_conversation": "Conversation",
        "_conversation_entries": "ConversationBranch ConversationEntry",
        "_conversation_records": "ConversationRecord",
        "_conversation_stores": "ConversationInfo ConversationStore",
        "_detection": "Detector Finding",
        "_explain": "ExplainedLayer Explanation",
        "_guarded_blobs": "GuardedBlobs",
        "_health": "Health PartHealth",
        "_history": "Group answered groups unanswered",
        "_image_tokens": "CropRule ImageRule LevelRule PatchRule TileRule",
        "_memory_spend": "MemorySpend",
        "_memory_stores": "memory_blobs",
        "_memory_vectors": "MemoryVectors",
        "_packing": "Packing",
        "_parameter_rules": "ParameterRule",
        "_preset_records": "Preset",
        "_price_sources": "PriceSource Pricing",
        "_prices": "Price UnpricedError",
        "_prompt_caching": "PromptCaching",
        "_prompts": "Prompt",
        "_provided": "provided",
        "_readings": "Reading pipelines_of readings",
        "_registry": "Registry registry",
        "_request_keys": "request_key",
        "_returns": "Returns",
        "_scrub": "scrub",
        "_scrub_logging": "ScrubFilter scrub_event",
        "_secrets": "Secret",
        "_shared_cards": "shared_cards",
        "_shortening": "History Shortener",
        "_shortening_strategies": "DropToolResults SlidingWindow Truncate",
        "_shown": "Shown",
        "_sizes": "Size",
        "_spend_checks": "storable",
        "_spend_records": "SpendQuery SpendRecord SpendStore SpendTotal",
        "_sqlite_blobs": "SQLiteBlobs sqlite_blobs",
        "_sqlite_conversations": "SQLiteConversations",
        "_sqlite_leases": "SQLiteLeases sqlite_leases",
        "_sqlite_spend": "SQLiteSpend sqlite_spend",
        "_store_outages": "GuardedLeases",
        "_surfaces": "Change Surface map_texts",
        "_tally": "CacheStats",
        "_template_library": "PromptLibrary",
        "_templates": "PromptTemplate",
        "_text_channels": "Channel TextChannels TextFilter",
        "_tokenizers": "counter_for exact_counter",
        "_tokens": "TokenCounter counted_input input_usage output_usage",
        "_trace_records": "TraceRecord",
        "_typed_forms": "Form form_of",
        "_typed_problems": "FormError Problem",
        "_values": "ValueDecoder ValueReader Values",
        "_vector_index": "Near VectorIndex",
    }.items()
    for name in names.split()
}
"""Public names that few programs need, by the module that is loaded when one is used."""

__all__: tuple[str, ...] = (
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
