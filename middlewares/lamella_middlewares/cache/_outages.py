"""Which failures of a call are nobody's mistake here, so that an old answer is better than none."""

from __future__ import annotations

from typing import Final

from lamella import (
    AttemptLimitError,
    BudgetExceededError,
    CircuitOpenError,
    CredentialsExhaustedError,
    DeadlineExceeded,
    LamellaError,
    LimitedError,
    NoTargetError,
    ProviderError,
    QuotaError,
    TargetsFailedError,
)

_OUTAGES: Final = (
    AttemptLimitError,  # what it has tried before that has failed
    BudgetExceededError,  # an old answer costs nothing
    CircuitOpenError,
    CredentialsExhaustedError,
    DeadlineExceeded,
    LimitedError,
    NoTargetError,
    QuotaError,
)


def outage(error: LamellaError) -> bool:
    """Whether the model could not be asked, or did not answer, for no fault of the request."""
    if error.committed:
        return False
    if isinstance(error, TargetsFailedError) and error.errors:
        return all(isinstance(one, LamellaError) and outage(one) for one in error.errors)
    if error.retryable or isinstance(error, _OUTAGES):
        return True
    return isinstance(error, ProviderError) and (error.status or 0) >= 500
