#!/usr/bin/env bash
# Installs GPAW with its PAW data into a Python environment: scripts/install_gpaw.sh [PYTHON]   (default: python3 of the PATH)
# It is compiled against libxc, OpenBLAS and FFTW of the system; where mpicxx is found (package libopenmpi-dev), for MPI.
set -euo pipefail
python=$(command -v "${1:-python3}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") # not resolved: a virtual environment links to another Python
cd "$(dirname "$0")/.."
packages="g++ libxc-dev libopenblas-dev libfftw3-dev"

if "$python" -c 'import gpaw, gpaw_data' 2>/dev/null; then
    "$python" -c 'import gpaw; print("GPAW", gpaw.__version__, "is there already")'
    exit 0
fi
if ! dpkg -s $packages >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y -qq --no-install-recommends $packages || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; }
    else
        echo "install_gpaw.sh: if this fails, install (as root, on Debian or Ubuntu): $packages" >&2
    fi
fi

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
{
    echo "compiler = 'g++'  # parts of GPAW are C++"
    if command -v mpicxx >/dev/null; then
        printf "mpi = True\nmpicompiler = 'mpicxx'\nmpilinker = 'mpicxx'\n"
    else
        echo "mpi = False"
    fi
    printf "fftw = True\nlibraries = ['xc', 'openblas', 'fftw3']\n"
} >"$site/siteconfig.py"

wanted() { sed -n "s/^\($1==[^ ]*\).*/\1/p" constraints.txt; }
GPAW_CONFIG="$site/siteconfig.py" "$python" -m pip install -c constraints.txt "$(wanted gpaw)" "$(wanted gpaw-data)"
"$python" -c 'import gpaw; import gpaw.cgpaw as c; print("GPAW", gpaw.__version__, "with MPI" if hasattr(c, "Communicator") else "without MPI")'
