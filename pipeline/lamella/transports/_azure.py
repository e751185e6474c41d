"""Azure OpenAI: the same APIs at addresses, and with keys, of one's own resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import attrs

from lamella._errors import (
    AttemptLimitError,
    CertificateError,
    ConfigurationError,
    DeadlineExceeded,
    FirstEventTimeout,
    LamellaError,
    NetworkError,
    TimedOutError,
)
from lamella._limits import Seconds, positive_seconds
from lamella._outcomes import Outcome
from lamella._ports import run_in_thread
from lamella._requests import Request
from lamella._responses import Response
from lamella.transports._azure_address import (
    AzureBackup,
    Deployments,
    Form,
    form_of,
    key_of,
    locator,
    root_of,
    wire_model,
)
from lamella.transports._credentials import Key
from lamella.transports._headers import static_headers, user_agent
from lamella.transports._http import HTTPClient
from lamella.transports._http_transport import HTTPTransport, TransportOptions, key_header
from lamella.transports._openai import API, dialect_options, openai_dialects
from lamella.transports._place import Place

if TYPE_CHECKING:
    from lamella._health import PartHealth
    from lamella._ports import ThreadPort
    from lamella._prompt_caching import PromptCaching

R = TypeVar("R", bound=Response)

__all__ = ["AzureBackup", "AzureOpenAI", "AzureOptions"]

_MOVES_ON = frozenset({408, 503, 504})
_MAYBE_BILLED = frozenset({Outcome.UNKNOWN, Outcome.TIMED_OUT, Outcome.TRUNCATED})
_YIELD_TO = {
    Outcome.NOT_SENT: _MAYBE_BILLED | {Outcome.FAILED},
    Outcome.FAILED: _MAYBE_BILLED,
}


def _span(value: Seconds) -> float | None:
    return positive_seconds(value)


@attrs.frozen(kw_only=True)
class AzureOptions(TransportOptions):
    """What is rarely said of an `AzureOpenAI` transport, besides `TransportOptions`.

    Its `name` is `"azure"` if none is given. Its `card_provider` is nobody, as a deployment may be
    called anything; `"openai"` is right where deployments go by their models' names.

    Attributes:
        token: An Entra token, a reference to it, or a function, plain or async, that gives one for
            each request (azure-identity's token providers do). In place of a key.
        api_version: The API's version (`2024-10-21`); None takes `OPENAI_API_VERSION`.
        form: `"v1"` (`/openai/v1/...`) or `"deployment"` (`/openai/deployments/NAME/...`). None is
            the deployment form if an API version is known, otherwise v1.
        api: Which API answers chat requests: `"chat"` or `"responses"`.
        model: The model of requests that name none.
        patience: Seconds that a resource has to begin its answer before the next backup is tried;
            None leaves it to the attempt's own limits, which end the whole attempt.
    """

    token: Key | None = attrs.field(default=None, repr=False)
    api_version: str | None = None
    form: Form | None = None
    api: API = "chat"
    model: str | None = None
    patience: Seconds = attrs.field(default=None, converter=_span)


class AzureOpenAI(HTTPTransport):
    """The transport to Azure OpenAI resources.

    Nothing is opened, read or imported before the first request.

    **Backups.** If a resource answers 503, 408 or 504, times out, or cannot be reached, before
    anything of its answer was handed on, the next one is tried; never after an error of
    authentication, quota or the request. All of this is *one* attempt of the call, since wire
    layers run once around a transport: the ledger has the resource that answered, each failure
    before it is a note `backup` in the trace, and each try counts towards the bound on attempts.
    Where each try must have its own entry and price, use the Fallback layer with a transport for
    each resource.

    Args:
        api_key: The key, a reference (`"env:NAME"`, `"file:PATH"`), or a function, plain or async,
            that returns it. None takes `AZURE_OPENAI_AD_TOKEN`, `AZURE_OPENAI_API_KEY` or
            `AZURE_API_KEY`, for Azure's hosts only.
        endpoint: The resource's address, such as `https://NAME.openai.azure.com`. None takes
            `resource`, `AZURE_OPENAI_ENDPOINT` or `AZURE_RESOURCE_NAME`.
        resource: The resource's name, in place of `endpoint`.
        deployment: The deployment that answers; a mapping has one for each model. None takes the
            request's model as the deployment's name.
        backups: Further resources, in order, as `AzureBackup` records or mappings of their fields.
        options: What is rarely said.

    Raises:
        ConfigurationError: If something given cannot be meant, or does not fit together.
    """

    def __init__(
        self,
        api_key: Key | None = None,
        *,
        endpoint: str | None = None,
        resource: str | None = None,
        deployment: Deployments = None,
        backups: Iterable[AzureBackup | Mapping[str, Any]] = (),
        options: AzureOptions | None = None,
    ) -> None:
        given = options or AzureOptions()
        super().__init__(given.name or "azure", given)
        self.options: AzureOptions = given
        first = AzureBackup(
            name=self.name,
            endpoint=endpoint,
            resource=resource,
            deployment=deployment,
            api_key=api_key,
            token=self.options.token,
            api_version=self.options.api_version,
            form=self.options.form,
        )
        others = [_backup(given).inheriting(first) for given in backups]
        self.resources = (first, *others)
        self._places: tuple[Place, ...] = ()

    async def __call__(self, request: Request[R]) -> R:
        """Answer a request.

        Raises:
            LamellaError: Whatever goes wrong before the answer is committed.
        """
        places = self._places or self._open_all(request.context.ports.thread)
        *before, last = places
        outcome = Outcome.NOT_SENT
        for index, place in enumerate(before):
            try:
                return await self._patiently(place, request)
            except LamellaError as error:
                if not _moves_on(error) or not self._may_move(places, index, request, error):
                    raise _as_a_whole(error, outcome) from error.__cause__
                outcome = _as_a_whole(error, outcome).outcome
        try:
            return await self._at(last, request)
        except LamellaError as error:
            raise _as_a_whole(error, outcome) from error.__cause__

    async def prompt_caching(self, request: Request[Any]) -> PromptCaching | None:
        """What the prompt caches of all of its resources take, as any of them may answer.

        Raises:
            LamellaError: What is missing or wrong, as when the request were sent.
        """
        places = self._places or self._open_all(request.context.ports.thread)
        first, *others = [place.prompt_caching(request) for place in places]
        return first if all(other == first for other in others) else None

    async def health(self) -> PartHealth:
        """Whether any of the resources can be reached and takes its key. Never raises."""
        from lamella._health import PartHealth

        try:
            places = self._places or self._open_all(run_in_thread)
        except LamellaError as error:
            return PartHealth(well=False, detail={"error": type(error).__name__})
        found: dict[str, PartHealth] = {}

        async def ask(place: Place) -> None:
            found[place.name] = await place.health()

        async with anyio.create_task_group() as group:
            for place in places:
                group.start_soon(ask, place)
        well = any(part.well for part in found.values())
        return PartHealth(well=well, detail={name: dict(p.detail) for name, p in found.items()})

    async def check(self) -> None:
        """Look for what it needs, address and key, without asking the endpoint.

        Raises:
            LamellaError: What is missing or wrong.
        """
        for place in self._places or self._open_all(run_in_thread):
            await place.check()

    def __repr__(self) -> str:
        return f"<AzureOpenAI {self.name!r} resources={len(self.resources)}>"

    # --- one after the other -----------------------------------------------------------------

    async def _patiently(self, place: Place, request: Request[R]) -> R:
        patience = _span(self.options.patience)
        if patience is None:
            return await self._at(place, request)
        with anyio.CancelScope(deadline=anyio.current_time() + patience):
            return await self._at(place, request)
        msg = f"{place.name} had not begun its answer after {patience:.3g} s."
        attempt = request.context.attempt
        unsent = attempt is not None and not attempt.sent
        outcome = Outcome.NOT_SENT if unsent else Outcome.TIMED_OUT
        raise FirstEventTimeout(msg, provider=place.name, outcome=outcome)

    async def _at(self, place: Place, request: Request[R]) -> R:
        attempt = request.context.attempt
        if attempt is not None:
            attempt.provider = place.name
        return await place.run(request)

    def _may_move(
        self, places: tuple[Place, ...], index: int, request: Request[Any], error: LamellaError
    ) -> bool:
        """Count and note one more try, unless the bound on attempts is reached."""
        context = request.context
        try:
            context.bound.take()
        except AttemptLimitError:
            return False
        context.note(
            self.name,
            "backup",
            failed=places[index].name,
            error=type(error).__name__,
            status=error.status,
            outcome=str(error.outcome),
            next=places[index + 1].name,
        )
        return True

    # --- what the first request opens --------------------------------------------------------

    def _where(self) -> str:
        found: list[str] = []
        for resource in self.resources:
            try:
                root = root_of(resource)
            except ConfigurationError:  # which the first request will say
                root = ""
            found.append(f"{root} {resource.deployment!r}")
        return f"{self.options.api}:{', '.join(found)}"

    def _open_all(self, thread: ThreadPort) -> tuple[Place, ...]:
        self._must_be_open()
        client = self._http(thread)
        self._places = tuple(
            [self._place(index, one, client) for index, one in enumerate(self.resources)]
        )
        return self._places

    def _place(self, index: int, resource: AzureBackup, client: HTTPClient) -> Place:
        from lamella.transports._endpoints import find_endpoint

        given = self.options
        name = resource.name or f"{self.name}-backup{index}"
        root = root_of(resource)
        row = attrs.evolve(find_endpoint("azure-ai"), name=name)
        if form_of(resource) != "v1":  # a dated version refuses fields that are younger
            row = attrs.evolve(row, cache_keys=False)
        locate = locator(resource, root)
        header, key = key_of(resource, root, name)
        return Place(
            name=name,
            client=client,
            given=given,
            dialects=openai_dialects(name, given.api, row.apis),
            model=given.model or _only(resource.deployment),
            options=given.dialect or dialect_options(row, given),
            card_provider=given.card_provider,
            rules=row,
            locate=locate,
            authorize=key_header(key, header),
            models_url=locate("/models", ""),
            headers=static_headers(given.headers, agent=user_agent("openai")),
            wire_model=wire_model(resource.deployment),
        )


def _backup(given: AzureBackup | Mapping[str, Any]) -> AzureBackup:
    if isinstance(given, AzureBackup):
        return given
    known = [field.name for field in attrs.fields(AzureBackup)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        msg = f"AzureOpenAI(backups=...) has no option {', '.join(map(repr, unknown))}."
        raise ConfigurationError(msg, hint=f"A backup has: {', '.join(known)}.")
    return AzureBackup(**given)


def _only(deployment: Deployments) -> str | None:
    return deployment if isinstance(deployment, str) else None


def _as_a_whole(error: LamellaError, before: Outcome) -> LamellaError:
    """A resource's error as that of all tries, after some that ended with `before`.

    That nothing was sent to this one, or that it refused, does not undo what an earlier one may
    have done, and billed.
    """
    yields = _YIELD_TO.get(error.outcome, frozenset())
    return error.copy(outcome=before) if before in yields else error


def _moves_on(error: LamellaError) -> bool:
    """Whether another resource may do better: this one is away, busy or late."""
    if isinstance(error, CertificateError | DeadlineExceeded):
        return False
    return isinstance(error, NetworkError | TimedOutError) or error.status in _MOVES_ON
