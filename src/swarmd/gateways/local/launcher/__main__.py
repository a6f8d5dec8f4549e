"""Where it begins: as a file, without the packages that the daemon has and without a way to them."""

import importlib
import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    guardian = importlib.import_module("launcher.guardian")
    sys.path.pop()
    guardian.main()
    os._exit(0)  # at once: somebody waits for it, and nothing is left to tidy up
