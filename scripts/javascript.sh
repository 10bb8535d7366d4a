# Sourced by ./test after environment.sh. Installs what checks the page's JavaScript into node_modules, in the versions
# of package-lock.json. What was installed stands in node_modules/.installed, so that a second ./test needs no network.
# The page itself needs none of this.

modules=$root/node_modules

# Sets `unchecked` to the reason why the JavaScript cannot be checked here, or to nothing. With JAVASCRIPT_CHECKS set to
# `required`, dies of the reason.
prepare_javascript() {
    unchecked=
    modules_installed && return
    if ! node=$(node --version 2>/dev/null) || ! npm --version >/dev/null 2>&1; then
        unchecked="it needs Node and npm (apt install nodejs npm, brew install node)."
    elif [ "$(printf '%s' "${node#v}" | cut -d. -f1)" -lt 18 ]; then
        unchecked="it needs Node 18 or newer; node is $node."
    else
        lock "$venv/bin/python"
        modules_installed || install_modules ||
            unchecked="npm could not install prettier and typescript, see above. The first time it needs a network."
        unlock
    fi
    [ -z "$unchecked" ] || [ "${JAVASCRIPT_CHECKS-}" != required ] || die "the page's JavaScript: $unchecked"
}

modules_installed() {
    [ -r "$modules/.installed" ] && node --version >/dev/null 2>&1 &&
        [ "$(cat "$modules/.installed")" = "$(modules_stamp)" ]
}

# The compiler is a program for one kind of machine.
modules_stamp() {
    printf '%s' "$(cksum <"$root/package-lock.json"), $(uname -sm)"
}

install_modules() {
    say "installing what checks the page's JavaScript into node_modules (once) …"
    (cd "$root" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) || return 1
    modules_stamp >"$modules/.installed"
}
