"""Where Bedrock's runtime is: regions, partitions, and whose host an address names.

The suffixes are those of botocore's table of partitions.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from lamella._errors import ConfigurationError
from lamella.transports._addresses import checked_address

_PARTITIONS: Final = (
    (re.compile(r"cn-"), "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    (re.compile(r"eusc-"), "amazonaws.eu", "api.amazonwebservices.eu"),
    (re.compile(r"us-iso-"), "c2s.ic.gov", "api.aws.ic.gov"),
    (re.compile(r"us-isob-"), "sc2s.sgov.gov", "api.aws.scloud"),
    (re.compile(r"eu-isoe-"), "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    (re.compile(r"us-isof-"), "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    (re.compile(r""), "amazonaws.com", "api.aws"),
)
"""How regions of a partition begin, and the domains there: with IPv4 only, and dual-stack."""

_REGION: Final = re.compile(r"[a-z]{2,6}(?:-[a-z]+)+-[0-9]{1,2}")
_REGION_IN_HOST: Final = re.compile(rf"(?:^|\.)bedrock-runtime(?:-fips)?\.({_REGION.pattern})\.")
_PORTS: Final = {"http": 80, "https": 443}


def checked_region(region: str, what: str) -> str:
    """A region's name, which becomes a part of the host's.

    Raises:
        ConfigurationError: If it cannot be one.
    """
    if _REGION.fullmatch(region) is None:
        msg = f"{what} is {region!r}, which is no AWS region."
        raise ConfigurationError(msg, hint="Give one such as 'us-east-1' or 'eu-central-1'.")
    return region


def runtime_address(region: str, *, fips: bool = False, dual_stack: bool = False) -> str:
    """The address of the runtime in a region."""
    plain, dual = next((p, d) for begins, p, d in _PARTITIONS if begins.match(region))
    name = "bedrock-runtime-fips" if fips else "bedrock-runtime"
    return f"https://{name}.{region}.{dual if dual_stack else plain}"


def own_address(given: str, what: str) -> str:
    """An address that was given, written as it will be signed: no default port, no capitals.

    Raises:
        ConfigurationError: If it is no address of HTTP.
    """
    example = "https://bedrock-runtime.us-east-1.amazonaws.com"
    parts = urlsplit(checked_address(given, what, example))
    host = (parts.hostname or "").encode("idna").decode()
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _PORTS[parts.scheme]:
        host = f"{host}:{parts.port}"
    return f"{parts.scheme}://{host}{parts.path}"


def region_in(address: str) -> str | None:
    """The region that an address of AWS names; None if it names none."""
    host = urlsplit(address).hostname or ""
    found = _REGION_IN_HOST.search(host) if is_amazon(address) else None
    return None if found is None else found[1]


def is_amazon(address: str) -> bool:
    """Whether an address is one of AWS, which alone may get the credentials of the environment."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    domains = {domain for _, *both in _PARTITIONS for domain in both}
    return parts.scheme == "https" and any(host.endswith(f".{domain}") for domain in domains)
