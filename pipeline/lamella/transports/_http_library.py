"""Which HTTP library is there, and how it is set up.

openai 2 brings httpx and httpcore, openai 3 brings httpx2 and httpcore2: the same libraries by the
same people under two names. Both are imported on first use, here and nowhere else.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import attrs

from lamella._errors import ConfigurationError
from lamella.transports._addresses import Proxy, read_proxy
from lamella.transports._http import HTTPOptions

T = TypeVar("T")


@attrs.frozen
class HTTPLibrary:
    """The two modules.

    Attributes:
        httpx: `httpx` or `httpx2`.
        core: `httpcore` or `httpcore2`, the connections beneath.
    """

    httpx: Any
    core: Any


@cache
def http_library() -> HTTPLibrary:
    """The library that the installed openai brings.

    Raises:
        ConfigurationError: If openai is not installed.
    """
    try:
        major = int(version("openai").partition(".")[0])
    except (PackageNotFoundError, ValueError):
        msg = "The package openai, which brings the HTTP client, is not installed."
        raise ConfigurationError(msg, hint="Install it with: pip install lamella") from None
    suffix = "2" if major >= 3 else ""
    return HTTPLibrary(import_module(f"httpx{suffix}"), import_module(f"httpcore{suffix}"))


def library_imported() -> bool:
    """Whether that is behind us; it takes a tenth of a second, for which no loop should wait."""
    return http_library.cache_info().currsize > 0


def ssl_context(options: HTTPOptions) -> ssl.SSLContext:
    """The TLS settings that options ask for. Reads files: call it where that may block.

    Raises:
        ConfigurationError: If a file is missing or is no PEM.
    """
    verify = options.verify
    context: ssl.SSLContext
    if isinstance(verify, ssl.SSLContext):
        context = verify
    elif isinstance(verify, str):
        context = _from_path(verify)
    else:
        context = http_library().httpx.create_ssl_context(verify=verify)
    certificate = options.client_cert
    if certificate is not None:
        _load(lambda: context.load_cert_chain(certificate), certificate)
    return context


def _from_path(path: str) -> ssl.SSLContext:
    folder = Path(path).is_dir()
    return _load(
        lambda: ssl.create_default_context(
            cafile=None if folder else path, capath=path if folder else None
        ),
        path,
    )


def _load(read: Callable[[], T], path: str) -> T:
    try:
        return read()
    except (OSError, ssl.SSLError) as error:
        msg = f"The certificate file {path!r} of HTTPOptions cannot be used."
        hint = f"It must exist and hold PEM ({type(error).__name__})."
        raise ConfigurationError(msg, hint=hint) from error


def proxy_for(scheme: str, host: str, options: HTTPOptions) -> Proxy | None:
    """The proxy for an origin: the option's, or else the environment's.

    Raises:
        ConfigurationError: If the environment's is none that is understood.
    """
    if options.proxy is not None:
        return read_proxy(options.proxy, "HTTPOptions.proxy")
    address = _proxy_of_environment(scheme, host) if options.trust_env else None
    if address is None:
        return None
    return read_proxy(address, f"The environment's proxy for {scheme}://")


def _proxy_of_environment(scheme: str, host: str) -> str | None:
    from urllib import request

    found: dict[str, str] = request.getproxies_environment()
    address = found.get(scheme) or found.get("all")
    # The standard library has documented this function's rules, but not put it into its stubs.
    bypassed: Any = vars(request)["proxy_bypass_environment"]
    if not address or bypassed(host, found):
        return None
    return address if "://" in address else f"http://{address}"
