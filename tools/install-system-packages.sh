#!/bin/sh
# Installs the Debian or Ubuntu packages of bindep.txt that are missing: as root, or through sudo, else it says which
# command does it. Elsewhere it names the packages and leaves the rest to you.
# Arguments: the profiles whose packages are wanted; "run" when there are none.
set -eu
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- run
profiles=$*
wanted() {
    for profile in $profiles; do
        sed -n "s/^\([a-z0-9.+-]*\) *\[platform:$1\( .*\)* $profile\( .*\)*\]\$/\1/p" bindep.txt
    done
}

if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian or Ubuntu system: install these first, if they are missing: $(wanted rpm | tr '\n' ' ')" >&2
    exit 0
fi
missing=""
for package in $(wanted dpkg); do
    # Where python3 is not the system's, what matters is that venv works, not which package brings it.
    if [ "$package" = python3-venv ] && python3 -c 'import ensurepip, venv' 2>/dev/null; then continue; fi
    case $package in nodejs | npm) if command -v "${package%js}" >/dev/null; then continue; fi ;; esac
    case "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)" in
        *" installed") ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

install="apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    run="sh -c"
elif sudo -n true 2>/dev/null; then
    run="sudo sh -c"
else
    echo "System packages are missing; run this, then make again:" >&2
    echo "    sudo sh -c '$install'" >&2
    exit 1
fi
echo "Installing system packages:$missing"
$run "$install" >/dev/null
