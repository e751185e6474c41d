"""Tools for testing what is built on Lamella.

What needs a server is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lamella.testing._scripted import Scripted, ScriptedAnswer, ScriptExhaustedError, Step
from lamella.testing._scripted_source import Item, ScriptedSource
from lamella.testing._steps import Scenario, each_step
from lamella.testing._virtual import (
    run_virtual,
    virtual_backend,
    virtual_backends,
    virtual_ports,
)

if TYPE_CHECKING:
    from typing import Any

    from lamella.testing._faults import Faults
    from lamella.testing._http_body import Pause
    from lamella.testing._http_connection import Early
    from lamella.testing._http_framing import Reply
    from lamella.testing._http_server import HTTPServer
    from lamella.testing._http_wire import Received
    from lamella.testing._mock_faults import MockFaults
    from lamella.testing._mock_server import MockServer
    from lamella.testing._mock_service import MockRequest
    from lamella.testing._plan import Plan

__all__ = (
    "Early",
    "Faults",
    "HTTPServer",
    "Item",
    "MockFaults",
    "MockRequest",
    "MockServer",
    "Pause",
    "Plan",
    "Received",
    "Reply",
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

_LAZY = {
    "Early": "_http_connection",
    "Faults": "_faults",
    "HTTPServer": "_http_server",
    "MockFaults": "_mock_faults",
    "MockRequest": "_mock_service",
    "MockServer": "_mock_server",
    "Pause": "_http_body",
    "Plan": "_plan",
    "Received": "_http_wire",
    "Reply": "_http_framing",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    public = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = public
    return public


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
