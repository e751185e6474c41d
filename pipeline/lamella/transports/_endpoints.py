"""The table of known endpoints that speak OpenAI's APIs: rows of data, not classes.

A row says where an endpoint is, which variables hold its key, which APIs it has, and where it
differs: other names of parameters, fields it does not take, where it puts reasoning. An endpoint
that is not here needs none of this; it is used by its `base_url`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

import attrs

from lamella._checked_tables import Mistakes, Table, close_to, on_bases
from lamella._errors import ConfigurationError, UnknownNameError
from lamella._parameter_rules import ParameterRule, RuleBook
from lamella._rule_tables import read_rules

APIS: Final = frozenset({"chat", "responses", "embeddings", "models", "moderation", "token_count"})
"""The APIs that an endpoint may have.

`models` is the list of its models; `token_count` is `POST /responses/input_tokens`; `moderation` is
`POST /moderations`.
"""

_PLACEHOLDER: Final = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")


def _rule_book(endpoint: Endpoint) -> RuleBook:
    return RuleBook(f"endpoint {endpoint.name!r}", endpoint.rules)


@attrs.frozen
class Endpoint:
    """One endpoint and its peculiarities.

    Attributes:
        name: The name by which it is asked for.
        base_url: Its address; `{NAME}` in it stands for an environment variable. Local servers are
            looked for on the loopback address.
        url_variables: Environment variables that may hold another address, the first that is set
            wins.
        key_variables: Environment variables that may hold the key, the first that is set wins.
        key_required: Whether it answers nobody without a key.
        key_header: The header of the key. `Authorization` takes it as a bearer token, others bare.
        apis: Which APIs it has; see `APIS`.
        card_provider: The provider of its models' cards; None if there are none, and models go by
            names that say nothing of them.
        stream_usage: Whether it takes `stream_options.include_usage`. Where it does not, it sends
            usage with the last chunk unasked, or never.
        developer_role: Whether it takes messages of the role `developer`.
        strict_fields: Whether it refuses requests with fields that it does not know.
        reasoning_fields: The fields of a message or delta that hold reasoning text, in the order in
            which to look.
        return_reasoning: Whether those fields must be sent back with the conversation.
        cache_marks: Whether parts may carry Anthropic's marks for prompt caches (`cache_control`).
        cache_keys: Whether requests may carry OpenAI's fields for prompt caches
            (`prompt_cache_key`, `prompt_cache_retention`). Without a `card_provider` it has models
            of many makers, and only those whose cards say so get them.
        rules: What it does with parameters, applied after those of the model's card.
    """

    name: str
    base_url: str
    url_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    key_required: bool = True
    key_header: str = "Authorization"
    apis: frozenset[str] = frozenset({"chat"})
    card_provider: str | None = None
    stream_usage: bool = True
    developer_role: bool = False
    strict_fields: bool = False
    reasoning_fields: tuple[str, ...] = ()
    return_reasoning: bool = False
    cache_marks: bool = False
    cache_keys: bool = False
    rules: tuple[ParameterRule, ...] = ()
    rule_book: RuleBook = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_rule_book, takes_self=True)
    )
    """The rules, prepared for `apply_rules`."""

    def url(self, environment: Mapping[str, str]) -> str:
        """Its address, without a slash at the end.

        Args:
            environment: Environment variables; an empty one counts as not set.

        Raises:
            ConfigurationError: If the address needs a variable that is not set.
        """
        for name in self.url_variables:
            if environment.get(name):
                return environment[name].rstrip("/")
        missing = [name for name in self.url_needs if not environment.get(name)]
        if missing:
            others = "".join(f", or {name} to the whole address" for name in self.url_variables)
            raise ConfigurationError(
                f"The address of the endpoint {self.name!r} needs {' and '.join(missing)}.",
                hint=f"Set {' and '.join(missing)}{others}, or give `base_url`.",
            )
        return _PLACEHOLDER.sub(lambda found: environment[found[1]], self.base_url).rstrip("/")

    @property
    def url_needs(self) -> tuple[str, ...]:
        """The environment variables that stand in `base_url`."""
        return tuple(_PLACEHOLDER.findall(self.base_url))

    @property
    def max_tokens_name(self) -> str:
        """What its Chat Completions call the bound on output tokens, unless a card says more."""
        names = (
            rule.to
            for rule in self.rules
            if rule.parameter == "max_output_tokens" and rule.action == "rename"
        )
        return next(names, None) or "max_tokens"

    def key_variable(self, environment: Mapping[str, str]) -> str | None:
        """The variable that holds the key; None if none of them is set."""
        return next((name for name in self.key_variables if environment.get(name)), None)


def find_endpoint(name: str) -> Endpoint:
    """The endpoint of that name.

    Raises:
        UnknownNameError: If there is none; the hint names near ones.
    """
    known = endpoints()
    found = known.get(name)
    if found is None:
        offer = close_to(name, known) or f"Known are {', '.join(sorted(known))}."
        raise UnknownNameError(
            f"There is no endpoint called {name!r}.",
            hint=f"{offer} Any other that speaks OpenAI's APIs is used by its `base_url`.",
        )
    return found


@cache
def endpoints() -> Mapping[str, Endpoint]:
    """All known endpoints by name."""
    file = files("lamella.transports").joinpath("endpoints.toml")
    found = read_endpoints(
        tomllib.loads(file.read_text("utf-8")), place="lamella/transports/endpoints.toml"
    )
    return {endpoint.name: endpoint for endpoint in found}


def read_endpoints(
    tables: Mapping[str, object], *, place: str = "endpoints"
) -> tuple[Endpoint, ...]:
    """The endpoints that a table like this package's describes.

    Raises:
        ConfigurationError: If it has mistakes; all are named.
    """
    mistakes = Mistakes(place)
    top = Table(tables, "", mistakes)
    top.day("as_of", required=True)
    top.text("source", required=True)
    found = tuple(_endpoint(name, table) for name, table in on_bases(top, "endpoints"))
    top.finish()
    mistakes.raise_any()
    return found


def _endpoint(name: str, table: Table) -> Endpoint:
    base_url = table.text("base_url", required=True) or ""
    if base_url and not base_url.startswith(("http://", "https://")):
        table.wrong("base_url", "an address that starts with http:// or https://")
    endpoint = Endpoint(
        name=name,
        base_url=base_url,
        url_variables=table.texts("url_variables"),
        key_variables=table.texts("key_variables"),
        key_required=table.flag("key_required", default=True),
        key_header=table.text("key_header") or "Authorization",
        apis=table.names("apis", APIS),
        card_provider=table.text("card_provider"),
        stream_usage=table.flag("stream_usage", default=True),
        developer_role=table.flag("developer_role", default=False),
        strict_fields=table.flag("strict_fields", default=False),
        reasoning_fields=table.texts("reasoning_fields"),
        return_reasoning=table.flag("return_reasoning", default=False),
        cache_marks=table.flag("cache_marks", default=False),
        cache_keys=table.flag("cache_keys", default=False),
        rules=read_rules(table),
    )
    if not endpoint.apis:
        table.missing("apis", f"some of {', '.join(sorted(APIS))}")
    table.finish()
    return endpoint
