"""`python -m lamella.cli` is `lamella`."""

import sys

from lamella.cli import main

sys.exit(main())
