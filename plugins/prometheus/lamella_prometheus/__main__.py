"""`python -m lamella_prometheus dashboard` and `... rules`: write them out."""

from __future__ import annotations

import argparse
import json
import sys

from lamella_prometheus._dashboard import dashboard
from lamella_prometheus._rules import alert_rules


def main(arguments: list[str] | None = None) -> int:
    """Print the Grafana dashboard as JSON, or the alerts as YAML.

    Args:
        arguments: Those of the command line; None takes the process's.
    """
    parser = argparse.ArgumentParser(prog="python -m lamella_prometheus", description=__doc__)
    parser.add_argument("what", choices=["dashboard", "rules"], help="what to print")
    parser.add_argument("--prefix", default="lamella", help="as Prometheus(prefix=...)")
    given = parser.parse_args(arguments)
    if given.what == "rules":
        sys.stdout.write(alert_rules(prefix=given.prefix))
    else:
        sys.stdout.write(json.dumps(dashboard(prefix=given.prefix), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
