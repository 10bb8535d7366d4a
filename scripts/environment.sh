# Sourced by ./ask and ./test, which set `root`. Makes the checkout's own virtual environment and installs partsong
# into it, editable: a pulled change needs no new installation, only a changed pyproject.toml does. What was installed
# stands in .venv/installed. Everything is said on standard error: standard output belongs to the answer.

venv=$root/.venv

say() { printf 'partsong: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# prepare_environment EXTRAS
prepare_environment() {
    installed "$1" && return
    find_python
    lock "$python"
    installed "$1" || install "$1"
    unlock
}

# lock PYTHON: waits until nobody else installs. The kernel holds the lock for as long as this shell, or an installation
# that it left behind, has the file open: nothing to clean up after a crash.
lock() {
    exec 9<"$root/scripts/environment.sh"
    "$1" -I - 3<&9 <<'PYTHON'
import fcntl, sys
try:
    fcntl.flock(3, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("partsong: another ./ask or ./test is installing; waiting for it …", file=sys.stderr)
    fcntl.flock(3, fcntl.LOCK_EX)
except OSError:
    pass  # some network file systems have no locks
PYTHON
}

unlock() {
    exec 9<&-
}

# Whether that is installed already, by the Python that the environment still has, from this place.
installed() {
    [ -r "$venv/installed" ] && stamp=$(cat "$venv/installed") || return
    # The development tools come on top of everything else.
    [ "$stamp" = "$(stamp_for "$1")" ] || [ "$stamp" = "$(stamp_for dev)" ]
}

stamp_for() {
    printf '%s' "$1, $(cksum <"$root/pyproject.toml"), $root, $(run_python "$venv/bin/python")"
}

# Prints the version of a Python that runs and is new enough.
run_python() {
    "$1" -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Sets `python` to one that is new enough and can make virtual environments.
find_python() {
    incomplete=
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        run_python "$candidate" >/dev/null || continue
        python=$candidate
        "$python" -I -c 'import ensurepip, venv' 2>/dev/null && return
        incomplete=${incomplete:-$python}
    done
    if [ -n "$incomplete" ]; then
        version=$(run_python "$incomplete")
        die "$incomplete is there (Python $version), but without the venv module that makes virtual environments." \
            "On Debian and Ubuntu: apt install python$version-venv. Then run this again."
    fi
    found=$(python3 --version 2>/dev/null) && found="; python3 is $found" || found="; there is no python3"
    die "Python 3.11 or newer is needed$found. Get it from your system (apt install python3 python3-venv," \
        "dnf install python3, brew install python) or from python.org, then run this again."
}

install() {
    rm -f "$venv/installed"
    # An environment knows the place that it was made in: after a move it must be made anew.
    if ! run_python "$venv/bin/python" >/dev/null || ! grep -qsF "$venv/bin/python" "$venv/bin/pip" ||
        ! "$venv/bin/python" -I -m pip --version >/dev/null 2>&1; then
        say "making a virtual environment in .venv, with Python $(run_python "$python") …"
        "$python" -I -m venv --clear "$venv" >&2 || die "the virtual environment could not be made: see above."
    fi
    say "installing what it needs into .venv (once) …"
    # Twice quiet: pip's warnings are about the machine it runs on, its errors still show.
    (cd "$root" && "$venv/bin/python" -m pip install --disable-pip-version-check -q -q -e ".[$1]") >&2 ||
        die "the installation failed: see above. The first time it needs a package index, so a network."
    stamp_for "$1" >"$venv/installed"
}
