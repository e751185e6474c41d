"""Route: which of several targets gets a request."""

from __future__ import annotations

from lamella_middlewares.route._affinity import Affinity
from lamella_middlewares.route._board import TargetState
from lamella_middlewares.route._cheapest import Cheapest
from lamella_middlewares.route._classifier import Classifier
from lamella_middlewares.route._ejection import Ejection
from lamella_middlewares.route._middleware import Route
from lamella_middlewares.route._policies import (
    Candidate,
    Fastest,
    LeastInFlight,
    LeastUsed,
    Policy,
    Weighted,
    Weights,
)
from lamella_middlewares.route._rollout import Rollout
from lamella_middlewares.route._shadow import Shadow

__all__ = (
    "Affinity",
    "Candidate",
    "Cheapest",
    "Classifier",
    "Ejection",
    "Fastest",
    "LeastInFlight",
    "LeastUsed",
    "Policy",
    "Rollout",
    "Route",
    "Shadow",
    "TargetState",
    "Weighted",
    "Weights",
)
