"""`make demo`: the example study through a real daemon, from `swarmd run`, and where the result is."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the study, say where the result is; the exit code is that of `swarmd run`."""
    results = Path(os.environ.setdefault("STUDY_RESULTS", str(ROOT / "build" / "demo")))
    results.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("SWARM_PYTHON", sys.executable)
    study = ROOT / "examples" / "study" / "study.yaml"
    with tempfile.TemporaryDirectory(prefix="swarmd-demo-") as runtime:  # a daemon of its own, whoever else has one
        environment = {**os.environ, "XDG_RUNTIME_DIR": runtime, "XDG_STATE_HOME": str(ROOT / "build" / "state")}
        environment.pop("SWARMD_ADDRESS", None)
        command = [sys.executable, "-m", "swarmd", "run", str(study)]
        finished = subprocess.run(command, check=False, env=environment)
    if finished.returncode == 0:
        print("\nThe result of the study:")
        for path in sorted(results.iterdir()):
            if path.is_file():
                print(f"  {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
        table = results / "table.md"
        if table.is_file():
            print(f"\n{table.read_text()}")
    return finished.returncode


if __name__ == "__main__":
    sys.exit(main())
