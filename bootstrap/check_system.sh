#!/bin/sh
# Say what this system lacks to install p2pllm, and the command that installs it.
# Reads only. Exit 0: all there; 1: something is missing. PYTHON names the interpreter to check.
set -u
PYTHON=${PYTHON:-python3}
missing=""     # Debian package names
problems=""    # the same in words, a line each

lack() {
    missing="$missing $1"
    problems="$problems  - $2
"
}

if ! command -v "$PYTHON" >/dev/null 2>&1; then
    lack "python3 python3-venv python3-dev" "no $PYTHON"
elif ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    lack "python3.11 python3.11-venv python3.11-dev" \
        "$("$PYTHON" -V) is too old: 3.11 or newer is needed (then: make setup PYTHON=python3.11)"
else
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
        lack "python$version-venv" "Python's venv module is not installed"
    headers=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -f "$headers/Python.h" ] || lack "python$version-dev" "no Python.h in $headers"
fi
compiler=${CC:-cc}
if ! command -v "$compiler" >/dev/null 2>&1; then
    lack "build-essential libgmp-dev" "no C compiler ($compiler); gmp.h could not be looked for"
elif ! echo '#include <gmp.h>' | "$compiler" -E - >/dev/null 2>&1; then
    lack "libgmp-dev" "no gmp.h (fastecdsa, which libp2p needs, is built from source)"
fi

[ -z "$missing" ] && exit 0
{
    echo "p2pllm cannot be installed yet:"
    printf '%s' "$problems"
    echo "On Debian or Ubuntu:"
    [ "$(id -u)" = 0 ] && sudo="" || sudo="sudo "
    echo "  ${sudo}apt-get update && ${sudo}apt-get install -y$missing"
    echo "Elsewhere install the same things by the names they have there."
} >&2
exit 1
