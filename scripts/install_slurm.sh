#!/bin/sh
# Install what the tests and the benchmark of the Slurm gateway need: Slurm's daemons and clients, and libfaketime.
#
#   sh scripts/install_slurm.sh [--with-accounting]
#
# Nothing is configured and nothing is started: the tests start daemons of their own in private folders. With
# --with-accounting slurmdbd and MariaDB come too, for the tests that ask sacct.
set -eu

packages="slurmctld slurmd slurm-client libfaketime"
programs="slurmctld slurmd sbatch squeue scancel scontrol sinfo"
case "${1:-}" in
    "") ;;
    --with-accounting)
        packages="$packages slurmdbd mariadb-server"
        programs="$programs slurmdbd sacct sacctmgr mariadbd mariadb-install-db"
        ;;
    *)
        echo "usage: $0 [--with-accounting]" >&2
        exit 2
        ;;
esac

PATH="$PATH:/usr/sbin:/sbin"
missing=""
for program in $programs; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
if [ -z "$missing" ]; then
    echo "Slurm is installed"
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "missing:$missing. Install Slurm's slurmctld, slurmd and client programs and libfaketime with your system's" >&2
    echo "package manager; this script knows only apt." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "missing:$missing. As root: apt-get install --no-install-recommends $packages" >&2
    exit 1
fi

# Packages start their services when they are installed; these must not.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 - words on purpose
apt-get install -y -q --no-install-recommends $packages
