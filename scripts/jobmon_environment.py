"""Makes build/jobmon/venv, once: Jobmon's server 3.2.2 with its distributor, in versions that are known to go together.

Prints the folder. Tests and benchmarks use it; what they drive is the real server. Several may ask at once: one makes
it, the others wait. Exits with 1 and a sentence on standard error when it cannot be made.
"""

import fcntl
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "build" / "jobmon"

REQUIREMENTS = """
blinker==1.9.0
certifi==2026.10.19.post1
charset-normalizer==3.5.3
click==8.5.1
configparser==7.3.0
ecs-logging==2.3.0
elastic-apm==6.26.2
Flask==3.1.3
flask-cors==6.0.5
idna==3.20
itsdangerous==2.2.0
Jinja2==3.1.6
jobmon-core==3.2.2
jobmon-server==3.2.2
MarkupSafe==3.0.4
numpy==2.4.6
pandas==3.1.1
polars==2.1.0
psutil==7.2.2
PyMySQL==1.2.4
python-dateutil==4.0.0
requests==2.34.2
scipy==1.17.1
setuptools==65.5.0
SQLAlchemy==2.1.9
SQLAlchemy-Utils==0.43.0
structlog==26.1.0
tenacity==9.2.1
typing_extensions==4.16.0
tzdata==2026.6
urllib3==2.8.0
Werkzeug==3.1.9
wrapt==2.5.2
"""


def environment() -> Path:
    """The folder of the environment, made when it is not there. Raises RuntimeError when that cannot be done."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    place, made = FOLDER / "venv", FOLDER / "made"
    wanted = hashlib.sha256(REQUIREMENTS.encode()).hexdigest()
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists() and made.read_text() == wanted:
            return place
        print("installing Jobmon's server (once; a minute or two) ...", file=sys.stderr)
        venv.create(place, clear=True, with_pip=True)
        requirements = FOLDER / "requirements.txt"
        requirements.write_text(REQUIREMENTS.strip() + "\n")
        command = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
        done = subprocess.run([*map(str, command), str(requirements)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"Jobmon's server cannot be installed: {(done.stderr.strip() or 'pip failed')[-500:]}")
        made.write_text(wanted)
    return place


def main() -> int:
    """Make it and say where it is."""
    try:
        print(environment())
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
