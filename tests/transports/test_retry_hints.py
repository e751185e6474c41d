"""When a provider says one may come back."""

from __future__ import annotations

import math

import pytest

from lamella.transports._retry_hints import retry_after, should_retry, stated_in

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": " 3 "}, 3.0),
        ({"retry-after-ms": "1500", "retry-after": "60"}, 1.5),
        ({"retry-after-ms": "junk", "retry-after": "60"}, 60.0),
        ({"x-amz-retry-after": "2500"}, 2.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 -0000"}, 30.0),
        ({"retry-after": "86400"}, 86_400.0),
        ({"retry-after": "1e300"}, 1e300),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:12:50 GMT"}, None),
        ({"retry-after": "Tue, 99 Nov 2023 22:12:50 GMT"}, None),
        ({}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 0.012),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "12ms"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"}, 9.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000012"}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000012500"}, 12.5),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1699999999000"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "-1"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "0"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20Z",
            },
            60.0,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "5s",
            },
            5.0,
        ),
        ({"retry-after": "-1", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "4s"}, 4.0),
    ],
)
def test_hints(headers: dict[str, str], seconds: float | None) -> None:
    """The first valid hint counts; what is not positive, finite or understood is not one."""
    found = retry_after(headers, NOW)
    assert found is None if seconds is None else found == pytest.approx(seconds)
    assert found is None or (found > 0 and math.isfinite(found))


def test_dates_are_measured_by_the_provider_s_own_clock() -> None:
    """A date is compared with the answer's own `date`, so that our clock may be wrong."""
    headers = {
        "retry-after": "Tue, 14 Nov 2023 22:13:50 GMT",
        "date": "Tue, 14 Nov 2023 22:13:40 GMT",
    }
    assert retry_after(headers, NOW + 3600) == 10.0
    assert retry_after({"retry-after": headers["retry-after"]}, None) is None


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached. Please try again in 20s.", 20.0),
        ("Please try again in 350ms. Visit ...", 0.35),
        ("Please retry after 26 seconds.", 26.0),
        ("try again in 1.5m", 90.0),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 1h2m3.5s. Visit ...", 3723.5),
        ("try again in 2 hours", 7200.0),
        ("Retry after 1 minute and 5 seconds.", 65.0),
        ("try again in 3 months", None),
        ("try again in 0s", None),
        ("try again later", None),
    ],
)
def test_hints_in_words(message: str, seconds: float | None) -> None:
    """A wait that a message names in words is understood."""
    assert stated_in(message) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "said"), [("true", True), ("False", False), ("", None), ("maybe", None)]
)
def test_explicit_word(value: str, said: bool | None) -> None:
    """`x-should-retry` counts if it is true or false."""
    assert should_retry({"x-should-retry": value}) is said
