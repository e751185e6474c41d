"""Gemini on Vertex AI, Google Cloud's own platform."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import attrs

from lamella._errors import ConfigurationError
from lamella.transports._addresses import checked_address
from lamella.transports._credentials import NO_CREDENTIAL, Key, credential, from_environment
from lamella.transports._http_transport import HTTPTransport, key_header
from lamella_google._default_credentials import DefaultCredentials
from lamella_google._gemini import KEY_HEADER, KEY_VARIABLES
from lamella_google._options import GoogleOptions, versioned

if TYPE_CHECKING:
    from lamella._ports import ThreadPort
    from lamella.transports._exchange import Authorize
    from lamella.transports._place import Place

_MULTI_REGIONS: Final = frozenset({"us", "eu"})
_LOCATION: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_EXAMPLE: Final = "https://us-central1-aiplatform.googleapis.com"
_ADDRESS_VARIABLE: Final = "GOOGLE_VERTEX_BASE_URL"


def _can_be_location(location: str, what: str) -> str:
    """A location, which becomes a part of the host that credentials are sent to.

    Raises:
        ConfigurationError: If it is none.
    """
    if not _LOCATION.fullmatch(location):
        msg = f"{what} {location!r} is no location of Google Cloud."
        raise ConfigurationError(msg, hint="Give one such as 'global', 'eu' or 'us-central1'.")
    return location


@attrs.frozen(kw_only=True)
class VertexOptions(GoogleOptions):
    """What is rarely said of a `Vertex` transport; see `GoogleOptions` and `TransportOptions`.

    Its `name` and `card_provider` are `"vertex"` if none are given.

    Attributes:
        api_key: A key of Vertex AI in express mode, a reference to it, or a function that returns
            it, in place of a token. Requests then go to no project, unless one is given.
    """

    api_key: Key | None = attrs.field(default=None, repr=False)


class Vertex(HTTPTransport):
    """The transport to Gemini models on Vertex AI: chat, embeddings and counts of tokens.

    Nothing is opened, read or imported before the first request. Nothing is retried, except on a
    kept connection that the provider had closed.

    Without a token or key, and at Google's own hosts only: a project or location, given or by its
    variable, means Application Default Credentials (google-auth, of the extra `vertex`); otherwise
    a key in `GOOGLE_API_KEY` or `GEMINI_API_KEY` means express mode; otherwise they are tried.

    Args:
        token: An access token, a reference to one, or a function, plain or async, that gives one
            for each request.
        project: The project that is billed. None takes `GOOGLE_CLOUD_PROJECT`, then the project of
            the default credentials.
        location: `"global"`, a multi-region (`"us"`, `"eu"`) or a region. None takes
            `GOOGLE_CLOUD_LOCATION`, then `"global"`.
        model: The model of requests that name none.
        base_url: Where the API is, with or without its version. None takes
            `GOOGLE_VERTEX_BASE_URL`, then the location's own host.
        options: What is rarely said.

    Raises:
        ConfigurationError: If something given cannot be meant, or does not fit together.
    """

    def __init__(
        self,
        token: Key | None = None,
        *,
        project: str | None = None,
        location: str | None = None,
        model: str | None = None,
        base_url: str | None = None,
        options: VertexOptions | None = None,
    ) -> None:
        given = options or VertexOptions()
        if token is not None and given.api_key is not None:
            msg = "Vertex(token=...) and VertexOptions(api_key=...) were both given."
            raise ConfigurationError(msg, hint="Give one: a token, or a key of express mode.")
        super().__init__(given.name or "vertex", given)
        self.options: VertexOptions = given
        self.model = model
        self.project = project
        self.location = (
            None if location is None else _can_be_location(location, "Vertex(location=...):")
        )
        what = "Vertex(base_url=...)"
        self._given_url = None if base_url is None else checked_address(base_url, what, _EXAMPLE)
        self._token = credential(token, "token")
        self._key = credential(given.api_key, "api_key")
        self._default = DefaultCredentials(self.name)

    @property
    def card_provider(self) -> str | None:
        """Whose model cards hold for the models there."""
        return self.options.card_provider or "vertex"

    def card_name(self, model: str) -> str:
        """What the model cards call a model: its bare name, without resource and version."""
        from lamella_google._model_names import card_name

        return card_name(model)

    async def _make_place(self, thread: ThreadPort) -> Place:
        from lamella.transports._headers import static_headers, user_agent
        from lamella.transports._place import Place
        from lamella_google._dialects import google_dialect_options, google_dialects
        from lamella_google._model_names import card_name

        given = self.options
        project = self.project or os.environ.get("GOOGLE_CLOUD_PROJECT")
        location = self.location or self._location_variable()
        authorize, express = self._authorizer(project, location, thread)
        if express and not (self.project or self.location):
            project, location = None, None
        root = versioned(self._address(location), given, "v1beta1", "v1beta1")
        if project is None and not express and self._at_google:
            project = await self._project(thread)
        parent = "" if project is None else _parent(project, location)

        def locate(path: str, _: str) -> str:
            return root + (path if path.startswith("/projects/") else parent + path)

        return Place(
            name=self.name,
            client=self._http(thread),
            given=given,
            dialects=google_dialects(self.name, vertex=True),
            model=self.model,
            options=google_dialect_options(given),
            card_provider=self.card_provider,
            locate=locate,
            authorize=authorize,
            models_url=f"{root}/publishers/google/models?pageSize=1",
            headers=static_headers(given.headers, agent=user_agent("lamella-google")),
            card_model=card_name,
        )

    # --- where -------------------------------------------------------------------------------

    def _where(self) -> str:
        try:
            location = self.location or self._location_variable()
            project = self.project or os.environ.get("GOOGLE_CLOUD_PROJECT")
            return f"{self._address(location)}:{project or ''}:{location or ''}"
        except ConfigurationError:  # which the first request will say
            return ""

    @property
    def _at_google(self) -> bool:
        """Whether requests go to Google's own hosts, as far as a base URL says where they go."""
        if self._given_url is None:
            return True
        parts = urlsplit(self._given_url)
        return parts.scheme == "https" and (parts.hostname or "").endswith(".googleapis.com")

    def _address(self, location: str | None) -> str:
        if self._given_url is not None:
            return self._given_url
        variable = os.environ.get(_ADDRESS_VARIABLE)
        if variable:
            return checked_address(variable, _ADDRESS_VARIABLE, _EXAMPLE)
        if location is None or location == "global":
            return "https://aiplatform.googleapis.com"
        if location in _MULTI_REGIONS:
            return f"https://aiplatform.{location}.rep.googleapis.com"
        return f"https://{location}-aiplatform.googleapis.com"

    @staticmethod
    def _location_variable() -> str | None:
        found = os.environ.get("GOOGLE_CLOUD_LOCATION")
        return _can_be_location(found, "GOOGLE_CLOUD_LOCATION:") if found else None

    async def _project(self, thread: ThreadPort) -> str:
        found = None
        if self._token is None:
            found = await self._default.project(thread)
        if found is None:
            raise ConfigurationError(
                f"The transport {self.name!r} has no project.",
                hint="Give project=, or set GOOGLE_CLOUD_PROJECT.",
                provider=self.name,
                code="no_project",
            )
        return found

    # --- who ---------------------------------------------------------------------------------

    def _authorizer(
        self, project: str | None, location: str | None, thread: ThreadPort
    ) -> tuple[Authorize, bool]:
        """What proves who sends a request, and whether it is a key of express mode."""
        if self._token is not None:
            return key_header(self._token), False
        if self._key is not None:
            return key_header(self._key, KEY_HEADER), True
        if not self._at_google:
            return key_header(NO_CREDENTIAL), False
        found = None if project or location else from_environment(KEY_VARIABLES)
        if found is not None:
            return key_header(found, KEY_HEADER), True
        return self._default.authorizer(thread), False


def _parent(project: str, location: str | None) -> str:
    return f"/projects/{quote(project, safe=':')}/locations/{location or 'global'}"
