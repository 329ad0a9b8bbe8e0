# shellcheck shell=bash
# How the scripts speak. To be sourced.

say() { echo "==> $*"; }

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Tries a command until it succeeds, saying for what it waits. Arguments: seconds, what is waited for, command.
wait_for() {
    local seconds=$1 what=$2 start=$SECONDS told=-1
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS - start >= seconds)); then
            echo "gave up after $seconds s waiting for $what" >&2
            return 1
        fi
        # The first line comes at once, later ones every five seconds.
        if ((told < 0 || SECONDS - told >= 5)); then
            echo "    waiting for $what"
            told=$SECONDS
        fi
        sleep 0.2
    done
}
