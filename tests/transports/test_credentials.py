"""Keys: given, referred to, or found in the environment."""

from __future__ import annotations

import pytest

from lamella import Secret, SecretError
from lamella.transports import OpenAI


def test_a_reference_that_nobody_reads_is_never_taken_for_a_key() -> None:
    """`vault:...` without the distribution that reads it is refused, and not repeated."""
    with pytest.raises(SecretError, match="'vault'") as refused:
        OpenAI("vault:secret/team#key")

    assert "team" not in str(refused.value)


@pytest.mark.parametrize("key", ["sk-abc", "0f3b-99:secret", "Bearer:x"])
def test_a_key_with_a_colon_is_a_key(key: str) -> None:
    """Some providers' keys have one; only a word of small letters before it is a scheme."""
    assert OpenAI(key, base_url="http://127.0.0.1:9/v1").name == "127.0.0.1:9"
    assert (
        OpenAI(Secret.of_value("vault:x"), base_url="http://127.0.0.1:9/v1").name == "127.0.0.1:9"
    )
