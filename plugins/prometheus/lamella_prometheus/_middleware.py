"""The layer: each call counts once, and each of its attempts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, cast

import attrs
import prometheus_client

from lamella import (
    ConfigurationError,
    Context,
    Ending,
    Handler,
    Request,
    Response,
    ending,
    middleware,
    observed,
)
from lamella._options import refused, whole
from lamella_prometheus._pages import Page, Terms, page_of

R = TypeVar("R", bound=Response)

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TAG: Final = "tag:"
_PERSONAL: Final = frozenset({"user", "session"})


def _texts(value: Any) -> Any:
    """Several texts given as any sequence, as a tuple; one is not taken for its letters."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return tuple(cast("Iterable[object]", value))
    return value


def _prefix(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise refused(layer, option, value, "a name of letters, digits and underscores")


def _models(layer: object, option: attrs.Attribute[Any], value: object) -> None:
    given = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (None,)
    if not all(isinstance(each, str) and each for each in given):
        raise refused(layer, option, cast("Any", value), "a list of models' names")


def _labels(layer: object, option: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, tuple):
        raise refused(layer, option, value, 'a list such as ["tenant", "tag:team"]')
    names: set[str] = set()
    for label in cast("tuple[object, ...]", value):
        if label in _PERSONAL:
            raise ConfigurationError(
                f"Prometheus(labels=[{label!r}]): a label has a time series for each of its "
                "values, kept for all to see, and there are as many as people.",
                hint="Per user and session there is Spend: `await spend.total(user=...)`.",
            )
        if not isinstance(label, str) or not (label == "tenant" or _is_tag(label)):
            raise refused(layer, option, label, '"tenant", or "tag:NAME" for one of the tags')
        name = _label_name(label)
        if name in names:
            raise refused(layer, option, label, f"each label once: two come to {name!r}")
        names.add(name)


def _is_tag(label: str) -> bool:
    return label.startswith(_TAG) and len(label) > len(_TAG)


def _label_name(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _reader(label: str) -> Callable[[Request[Any]], object]:
    if label == "tenant":
        return lambda request: request.context.tenant
    tag = label.removeprefix(_TAG)
    return lambda request: request.context.tags.get(tag)


def _registry(layer: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, prometheus_client.CollectorRegistry):
        raise refused(layer, option, value, "a prometheus_client.CollectorRegistry, or None")


def _page(layer: Any) -> Page:
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    registry = prometheus_client.REGISTRY if layer.registry is None else layer.registry
    terms = Terms(layer.labels, layer.models, layer.max_values)
    readers = [(_label_name(label), _reader(label)) for label in layer.labels]
    return page_of(registry, layer.prefix, terms, readers)


@middleware(phase="observe", rank=20, name="prometheus")
@attrs.frozen(eq=False)
class Prometheus:
    """Counts calls, attempts, tokens, money and what layers did, for Prometheus to scrape.

    Every attempt counts: tries, losers of races, children, and work that outlives its call. Labels
    have a bounded number of values. Prompts, users and sessions never become labels.

    Args:
        registry: Where the metrics are registered; None is the client's default registry. Layers
            with the same registry and prefix count into the same metrics, and a call counts once
            for them, however many of them it passes.
        prefix: What all names begin with.
        labels: Labels that requests, attempts, tokens and cost have besides: `"tenant"`, or
            `"tag:team"` for the tag `team`, which becomes `tag_team`. What a request does not say
            is `"none"`.
        models: Models that have series of their own whatever others come first. They do not count
            towards `max_values`.
        max_values: How many values each label may have; 1 or more. What comes later is counted as
            `"other"`, and in `PREFIX_label_overflows_total`.
    """

    registry: Any = attrs.field(default=None, validator=_registry, kw_only=True, repr=False)
    prefix: str = attrs.field(default="lamella", validator=_prefix, kw_only=True)
    labels: tuple[str, ...] = attrs.field(
        default=(), converter=_texts, validator=_labels, kw_only=True
    )
    models: tuple[str, ...] = attrs.field(
        default=(), converter=_texts, validator=_models, kw_only=True
    )
    max_values: int = attrs.field(default=100, validator=whole(1, 100_000), kw_only=True)
    page: Page = attrs.field(init=False, repr=False, default=attrs.Factory(_page, takes_self=True))

    def __attrs_post_init__(self) -> None:
        """Let the page show the pipelines that this layer comes to stand in."""
        self.page.live.add(self)

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on, and count how it ended."""
        page = self.page
        inner = observed(request, page.recorder)
        if inner is request:
            return await call_next(request)  # a layer further out counts it
        call = _Call(page, request)
        call.begin()
        return await ending(call_next, inner, call.ended, answered=call.answered)


class _Call:
    """One call on its way."""

    __slots__ = ("_began", "_first", "_page", "_request", "_under_way")

    def __init__(self, page: Page, request: Request[Any]) -> None:
        self._page = page
        self._request = request
        self._began = request.context.trace.now()
        self._first: float | None = None
        self._under_way = False

    def begin(self) -> None:
        """Count it as one that is under way."""
        try:
            self._page.recorder.began(self._request.operation)
            self._under_way = True
        except Exception as error:  # noqa: BLE001 - counting must never cost an answer
            self._failed(error)

    def answered(self, _: Response) -> None:
        """The answer has come, which is when the first token of a stream has."""
        if self._request.stream:
            self._first = self._request.context.trace.now() - self._began

    def ended(self, end: Ending) -> None:
        """Count it."""
        context: Context = self._request.context
        recorder, seconds = self._page.recorder, context.trace.now() - self._began
        try:
            if self._under_way:  # first, as tags may be anything, and fail to be read
                recorder.over(self._request.operation)
            recorder.ended(self._request, end, seconds, self._first)
            if self._page.shared:
                self._page.live.write(context.ports.monotonic(), busy=recorder.busy)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        context: Context = self._request.context
        context.note("prometheus", "prometheus.failed", error=type(error).__name__)
