"""Tools for testing what is built on Lamella."""

from __future__ import annotations

from lamella.testing._scripted import Scripted, ScriptedAnswer, ScriptExhaustedError, Step
from lamella.testing._scripted_source import Item, ScriptedSource
from lamella.testing._steps import Scenario, each_step
from lamella.testing._virtual import (
    run_virtual,
    virtual_backend,
    virtual_backends,
    virtual_ports,
)

__all__ = (
    "Item",
    "Scenario",
    "ScriptExhaustedError",
    "Scripted",
    "ScriptedAnswer",
    "ScriptedSource",
    "Step",
    "each_step",
    "run_virtual",
    "virtual_backend",
    "virtual_backends",
    "virtual_ports",
)
