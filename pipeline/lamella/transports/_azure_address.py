"""Where an Azure OpenAI resource is, which of its two URL forms is meant, and what its keys are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import attrs

from lamella._errors import ConfigurationError
from lamella.transports._addresses import checked_address
from lamella.transports._credentials import (
    Credential,
    Key,
    credential,
    from_environment,
    missing_key,
)

Form: TypeAlias = Literal["v1", "deployment"]
Deployments: TypeAlias = str | Mapping[str, str] | None

KEY_VARIABLES: Final = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
TOKEN_VARIABLES: Final = ("AZURE_OPENAI_AD_TOKEN",)
_HOSTS: Final = (".azure.com", ".azure-api.net", ".azure.us", ".azure.cn")
_PER_DEPLOYMENT: Final = frozenset({"/chat/completions", "/embeddings"})


@attrs.frozen(kw_only=True)
class AzureBackup:
    """One resource; what is None is taken from the transport's own.

    Attributes:
        name: What it is called in traces; None numbers it.
        endpoint: Its address, such as `https://NAME.openai.azure.com`.
        resource: Its name, in place of `endpoint`.
        deployment: The deployment that answers, or one for each model.
        api_key: Its key, a reference to it, or a function that gives it.
        token: An Entra token, a reference, or a function that gives it, in place of a key.
        api_version: The API's version.
        form: Which of the URL forms it has.
    """

    name: str | None = None
    endpoint: str | None = None
    resource: str | None = None
    deployment: Deployments = None
    api_key: Key | None = attrs.field(default=None, repr=False)
    token: Key | None = attrs.field(default=None, repr=False)
    api_version: str | None = None
    form: Form | None = None

    def __attrs_post_init__(self) -> None:
        if self.endpoint is not None and self.resource is not None:
            msg = "Azure: both an endpoint and a resource were given."
            raise ConfigurationError(msg, hint="Give one; the resource's name makes the address.")
        if self.api_key is not None and self.token is not None:
            msg = "Azure: both a key and a token were given."
            raise ConfigurationError(msg, hint="Give api_key= or token=, not both.")
        if self.form not in {None, "v1", "deployment"}:
            msg = f"Azure: there is no URL form {self.form!r}."
            raise ConfigurationError(msg, hint="Use 'v1' or 'deployment'.")
        if self.endpoint is not None:
            _root(self.endpoint)

    def inheriting(self, above: AzureBackup) -> AzureBackup:
        """This resource, with what it does not say taken from `above`.

        An address, a key and a URL form are each taken whole, so that a key of its own does not
        meet a token of the other's.
        """
        changes: dict[str, object] = {}
        if self.endpoint is None and self.resource is None:
            changes |= {"endpoint": above.endpoint, "resource": above.resource}
        if self.api_key is None and self.token is None:
            changes |= {"api_key": above.api_key, "token": above.token}
        if self.deployment is None:
            changes["deployment"] = above.deployment
        if self.form is None and self.api_version is None:
            changes |= {"form": above.form, "api_version": above.api_version}
        return attrs.evolve(self, **changes)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def root_of(place: AzureBackup) -> str:
    """Its address, without what belongs to the API.

    Raises:
        ConfigurationError: If neither options nor environment say where it is.
    """
    if place.endpoint is not None:
        return _root(place.endpoint)
    resource = place.resource
    if resource is None:
        given = os.environ.get("AZURE_OPENAI_ENDPOINT")
        if given:
            return _root(given)
        resource = os.environ.get("AZURE_RESOURCE_NAME")
    if not resource:
        msg = "AzureOpenAI does not know its endpoint."
        hint = "Give endpoint= or resource=, or set AZURE_OPENAI_ENDPOINT or AZURE_RESOURCE_NAME."
        raise ConfigurationError(msg, hint=hint)
    if not all(letter.isalnum() or letter == "-" for letter in resource):
        msg = f"{resource!r} is no name of an Azure resource."
        raise ConfigurationError(msg, hint="Give the name alone, or the address by endpoint=.")
    return f"https://{resource}.openai.azure.com"


def _root(endpoint: str) -> str:
    root = checked_address(endpoint, "Azure's endpoint", "https://NAME.openai.azure.com")
    for suffix in ("/openai/v1", "/openai"):
        root = root.removesuffix(suffix)
    return root


def locator(place: AzureBackup, root: str) -> Callable[[str, str], str]:
    """What makes URLs of paths and deployments, in the form that the resource has.

    Without a form, an API version (given, or `OPENAI_API_VERSION`) means the deployment form.

    Raises:
        ConfigurationError: If the deployment form has no API version.
    """
    version, form = _version(place), form_of(place)
    query = "" if version is None else "?" + urlencode({"api-version": version})
    if form == "v1":
        return lambda path, _: f"{root}/openai/v1{path}{query}"
    if version is None:
        msg = "The deployment form of Azure's URLs needs an API version."
        hint = "Give api_version=, set OPENAI_API_VERSION, or use form='v1'."
        raise ConfigurationError(msg, hint=hint)

    def locate(path: str, model: str) -> str:
        inside = f"/deployments/{quote(model, safe='')}" if path in _PER_DEPLOYMENT else ""
        return f"{root}/openai{inside}{path}{query}"

    return locate


def form_of(place: AzureBackup) -> Form:
    """The form of its URLs."""
    return place.form or ("v1" if _version(place) is None else "deployment")


def _version(place: AzureBackup) -> str | None:
    if place.api_version is not None or place.form == "v1":
        return place.api_version
    return os.environ.get("OPENAI_API_VERSION") or None


def wire_model(deployment: Deployments) -> Callable[[str], str] | None:
    """Which deployment answers for a model; None where they have the same names."""
    if deployment is None:
        return None
    if isinstance(deployment, str):
        return lambda _: deployment
    return lambda model: deployment.get(model, model)


def key_of(place: AzureBackup, root: str, provider: str) -> tuple[str, Credential]:
    """The header of the key, and where the key comes from.

    Variables are used for Azure's own hosts, and for whatever address the environment itself gives.

    Raises:
        ConfigurationError: If there is none.
    """
    token = credential(place.token, "token")
    if token is not None:
        return "Authorization", token
    key = credential(place.api_key, "api_key")
    if key is not None:
        return "api-key", key
    named = place.endpoint is not None
    host = urlsplit(root).hostname or ""
    if not named or host.endswith(_HOSTS):
        token, key = from_environment(TOKEN_VARIABLES), from_environment(KEY_VARIABLES)
        if token is not None:
            return "Authorization", token
        if key is not None:
            return "api-key", key
    raise missing_key(provider, "api_key", (*KEY_VARIABLES, *TOKEN_VARIABLES))
