"""Retry: try again what may pass, and nothing else."""

from __future__ import annotations

from lamella._retry_budget import RetryBudget
from lamella_middlewares.retry._middleware import Retry

__all__ = ("Retry", "RetryBudget")
