#!/bin/sh
# Makes the virtual environment given as $1 and installs the project into it, editable, with everything to develop it.
set -eu
venv=$1
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null 2>&1 || python=python3
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "swarmd needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing python3-venv, which Debian keeps apart from Python ..."
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "Python's venv module is not complete here: apt-get install python3-venv, then run this again" >&2
        exit 1
    fi
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing swarmd and its tools into $venv (once; some 20 seconds) ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev,examples,otel]'
