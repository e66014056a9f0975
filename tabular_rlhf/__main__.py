"""`python -m tabular_rlhf` is `tabular-rlhf`."""

import sys

from tabular_rlhf.cli import main

sys.exit(main())
