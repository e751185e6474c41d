"""What this distribution contributes; nothing here imports botocore."""

from __future__ import annotations

from collections.abc import Mapping


def lamella_secret_sources() -> Mapping[str, str]:
    """The source of `aws-secrets:...`, set up by the environment."""
    return {"aws-secrets": "lamella_aws_secrets._source:aws_secrets"}
