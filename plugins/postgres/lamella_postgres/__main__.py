"""`python -m lamella_postgres`: write out the SQL that makes the table."""

from __future__ import annotations

import argparse
import sys

from lamella import ConfigurationError
from lamella_postgres._table import spend_ddl


def main(arguments: list[str] | None = None) -> int:
    """Print the SQL.

    Args:
        arguments: Those of the command line; None takes the process's.
    """
    parser = argparse.ArgumentParser(prog="python -m lamella_postgres", description=__doc__)
    parser.add_argument("--schema", default="lamella", help="as PostgresSpend(schema=...)")
    parser.add_argument("--role", help="who is to read, append and forget")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(spend_ddl(given.schema, role=given.role))
    except ConfigurationError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
