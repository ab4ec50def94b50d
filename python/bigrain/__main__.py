# SPDX-License-Identifier: Apache-2.0
"""``python -m bigrain`` is the command ``bigrain``."""

import sys

from bigrain.cli import main

if __name__ == "__main__":
    sys.exit(main())
