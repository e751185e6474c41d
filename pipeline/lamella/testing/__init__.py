"""Tools for testing what is built on Lamella. They need no extra.

Each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella._lazy import lazily

if TYPE_CHECKING:
    from lamella.testing._blob_conformance import check_blob_store
    from lamella.testing._conformance import (
        Check,
        check_middleware,
        check_transport,
        middleware_checks,
        transport_checks,
    )
    from lamella.testing._failover import (
        FailoverProvider,
        FailoverResult,
        FailoverScenario,
        play_failover,
    )
    from lamella.testing._failover_book import FAILOVER_SCENARIOS
    from lamella.testing._faults import Faults
    from lamella.testing._http_body import Pause
    from lamella.testing._http_connection import Early
    from lamella.testing._http_framing import Reply
    from lamella.testing._http_server import HTTPServer
    from lamella.testing._http_wire import Received
    from lamella.testing._lease_conformance import check_lease_store
    from lamella.testing._mock_batches import MockBatches
    from lamella.testing._mock_faults import MockFaults
    from lamella.testing._mock_server import MockServer
    from lamella.testing._mock_service import MockRequest
    from lamella.testing._plan import Plan
    from lamella.testing._scripted import Scripted, ScriptedAnswer, ScriptExhaustedError, Step
    from lamella.testing._scripted_source import Item, ScriptedSource
    from lamella.testing._simulated_faults import FaultKind, FaultWindow
    from lamella.testing._simulated_laws import Violation
    from lamella.testing._simulated_ledger import Ledger
    from lamella.testing._simulated_load import Load
    from lamella.testing._simulated_provider import SimulatedProvider
    from lamella.testing._simulated_spread import Spread
    from lamella.testing._simulation import Simulation, simulate
    from lamella.testing._simulation_campaign import campaign_simulation
    from lamella.testing._simulation_report import Moment, Report
    from lamella.testing._spend_conformance import check_spend_store
    from lamella.testing._steps import Scenario, cancelled_at, each_step
    from lamella.testing._vector_conformance import check_vector_index
    from lamella.testing._virtual import (
        run_virtual,
        virtual_backend,
        virtual_backends,
        virtual_ports,
    )

__all__ = (
    "FAILOVER_SCENARIOS",
    "Check",
    "Early",
    "FailoverProvider",
    "FailoverResult",
    "FailoverScenario",
    "FaultKind",
    "FaultWindow",
    "Faults",
    "HTTPServer",
    "Item",
    "Ledger",
    "Load",
    "MockBatches",
    "MockFaults",
    "MockRequest",
    "MockServer",
    "Moment",
    "Pause",
    "Plan",
    "Received",
    "Reply",
    "Report",
    "Scenario",
    "ScriptExhaustedError",
    "Scripted",
    "ScriptedAnswer",
    "ScriptedSource",
    "SimulatedProvider",
    "Simulation",
    "Spread",
    "Step",
    "Violation",
    "campaign_simulation",
    "cancelled_at",
    "check_blob_store",
    "check_lease_store",
    "check_middleware",
    "check_spend_store",
    "check_transport",
    "check_vector_index",
    "each_step",
    "middleware_checks",
    "play_failover",
    "run_virtual",
    "simulate",
    "transport_checks",
    "virtual_backend",
    "virtual_backends",
    "virtual_ports",
)

_HOMES = {
    "FAILOVER_SCENARIOS": "_failover_book",
    "Check": "_conformance",
    "Early": "_http_connection",
    "FailoverProvider": "_failover",
    "FailoverResult": "_failover",
    "FailoverScenario": "_failover",
    "FaultKind": "_simulated_faults",
    "FaultWindow": "_simulated_faults",
    "Faults": "_faults",
    "HTTPServer": "_http_server",
    "Item": "_scripted_source",
    "Ledger": "_simulated_ledger",
    "Load": "_simulated_load",
    "MockBatches": "_mock_batches",
    "MockFaults": "_mock_faults",
    "MockRequest": "_mock_service",
    "MockServer": "_mock_server",
    "Moment": "_simulation_report",
    "Pause": "_http_body",
    "Plan": "_plan",
    "Received": "_http_wire",
    "Reply": "_http_framing",
    "Report": "_simulation_report",
    "Scenario": "_steps",
    "ScriptExhaustedError": "_scripted",
    "Scripted": "_scripted",
    "ScriptedAnswer": "_scripted",
    "ScriptedSource": "_scripted_source",
    "SimulatedProvider": "_simulated_provider",
    "Simulation": "_simulation",
    "Spread": "_simulated_spread",
    "Step": "_scripted",
    "Violation": "_simulated_laws",
    "campaign_simulation": "_simulation_campaign",
    "cancelled_at": "_steps",
    "check_blob_store": "_blob_conformance",
    "check_lease_store": "_lease_conformance",
    "check_middleware": "_conformance",
    "check_spend_store": "_spend_conformance",
    "check_transport": "_conformance",
    "check_vector_index": "_vector_conformance",
    "each_step": "_steps",
    "middleware_checks": "_conformance",
    "play_failover": "_failover",
    "run_virtual": "_virtual",
    "simulate": "_simulation",
    "transport_checks": "_conformance",
    "virtual_backend": "_virtual",
    "virtual_backends": "_virtual",
    "virtual_ports": "_virtual",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
