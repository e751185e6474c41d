"""What goes wrong between a request and its answer, in the same words from every HTTP client."""

from __future__ import annotations

import errno

from lamella._errors import (
    CertificateError,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeout,
    LamellaError,
    MisuseError,
    ProtocolError,
    ResponseTooLargeError,
    StreamTruncated,
    WriteTimeout,
)

_TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})


# --- before anything was sent ------------------------------------------------------------------


def client_closed(who: str) -> ClosedError:
    """The client was closed, by its transport."""
    hint = "Make a new one; a closed transport stays closed."
    return ClosedError(f"The transport of {who} was closed.", hint=hint, provider=who)


def bad_header(who: str) -> MisuseError:
    """A header cannot be sent; it is not quoted, for it may be the key."""
    msg = "A header of the request holds what no header can hold, or is one that is added here."
    hint = "Keys, names and ids must be one line of printable ASCII."
    return MisuseError(msg, hint=hint, provider=who)


def connect_timeout(who: str, where: str, seconds: float | None) -> ConnectTimeout:
    """No connection within the limit, a free place among `max_connections` included."""
    limit = "the limit" if seconds is None else f"{seconds:.3g} s"
    msg = f"No connection to {who} ({where}) within {limit}."
    hint = "If the machine is busy, HTTPOptions.max_connections may be too small."
    return ConnectTimeout(msg, hint=hint, provider=who)


def no_connection(who: str, where: str, error: BaseException | None = None) -> ConnectError:
    """No connection could be made."""
    if isinstance(error, OSError) and error.errno in _TOO_MANY_FILES:
        msg = f"No connection to {who} ({where}): this process may open no more files."
        hint = "Raise the system's limit (`ulimit -n`), or lower HTTPOptions.max_connections."
        return ConnectError(msg, hint=hint, provider=who)
    msg = f"No connection to {who} ({where}) could be made."
    return ConnectError(msg, hint="Check the address, the network and proxies.", provider=who)


def untrusted(who: str, where: str) -> CertificateError:
    """The peer's certificate, or its TLS, was not accepted."""
    msg = f"The certificate or TLS of {who} ({where}) was not accepted."
    hint = "Check the address; a private authority is given by HTTPOptions(verify='ca.pem')."
    return CertificateError(msg, hint=hint, provider=who)


def proxy_refused(who: str, where: str) -> ConnectError:
    """The proxy answered that it does not connect."""
    msg = f"The proxy refused to connect to {where}."
    hint = "Check HTTPOptions.proxy, or the proxy variables of the environment."
    return ConnectError(msg, hint=hint, provider=who, retryable=False)


# --- until the answer's headers are there ------------------------------------------------------


def write_timeout(who: str, seconds: float) -> WriteTimeout:
    """The peer took no more of the request."""
    msg = f"{who} took no more of the request for {seconds:.3g} s."
    return WriteTimeout(msg, provider=who)


def lost_before_answer(who: str, where: str) -> ConnectionLostError:
    """The connection broke before there was an answer."""
    msg = f"The connection to {who} ({where}) was lost before it answered."
    return ConnectionLostError(msg, provider=who)


def headers_too_large(who: str) -> ResponseTooLargeError:
    """The answer's headers are over the bound."""
    msg = f"The headers of {who}'s answer are larger than HTTPOptions.max_header_bytes."
    return ResponseTooLargeError(msg, provider=who)


def no_http(who: str) -> ProtocolError:
    """What came is no answer of HTTP."""
    return ProtocolError(f"What {who} sent is no HTTP.", provider=who)


# --- in the answer's body ----------------------------------------------------------------------


def answer_closed(who: str) -> ClosedError:
    """The answer was closed under a read."""
    return ClosedError(f"The answer of {who} was closed while it was read.", provider=who)


def read_broken_off(who: str) -> ConnectionLostError:
    """An earlier read was cancelled or failed."""
    msg = f"An earlier read of the answer of {who} was broken off."
    return ConnectionLostError(msg, provider=who, phase="stream")


def unknown_coding(who: str) -> ProtocolError:
    """The body is compressed in a way that nobody asked for."""
    msg = f"{who} compressed its answer in a way that it was not asked for."
    return ProtocolError(msg, provider=who)


def badly_compressed(who: str) -> ProtocolError:
    """The body is not compressed as it says."""
    msg = f"The answer of {who} is not compressed as it says."
    return ProtocolError(msg, provider=who)


def body_too_large(who: str, most: int) -> ResponseTooLargeError:
    """The body is over the bound."""
    msg = f"The answer of {who} is larger than {most} bytes."
    hint = "If that is to be expected, raise HTTPOptions.max_body_bytes."
    return ResponseTooLargeError(msg, hint=hint, provider=who)


def malformed_body(who: str) -> ProtocolError:
    """The body is not framed as HTTP demands."""
    return ProtocolError(f"The answer of {who} is not what HTTP allows.", provider=who)


def truncated(who: str) -> StreamTruncated:
    """The peer closed in an orderly way before the end that it had announced."""
    msg = f"{who} closed the connection in the middle of its answer."
    return StreamTruncated(msg, provider=who)


def lost_in_answer(who: str) -> ConnectionLostError:
    """The connection broke in the middle of the answer."""
    msg = f"The connection to {who} was lost in the middle of its answer."
    return ConnectionLostError(msg, provider=who, phase="stream")


def as_failure(error: Exception, who: str, where: str) -> LamellaError:
    """The library's own error, or that of a connection that could not be made."""
    return error if isinstance(error, LamellaError) else no_connection(who, where, error)
