# Output, progress, privileges and places; sourced before the other pieces.
# shellcheck shell=bash

ROOT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/token-broker
TOOLS_DIR=$ROOT_DIR/.tools
# What one clone has compiled serves another one on the same machine.
export CCACHE_BASEDIR=$ROOT_DIR CCACHE_NOHASHDIR=1
# shellcheck source=versions.sh
source "$ROOT_DIR/scripts/lib/versions.sh"

say() { printf '[%s] %s\n' "${0##*/}" "$*"; }
die() {
  printf '[%s] error: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# as_root COMMAND...: runs it as root, by sudo where the caller is somebody else.
as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root for: $* (run it as root, or install sudo)"
  fi
}

# run_long WHAT COMMAND...: runs COMMAND with its output in a file, says every 15 s that it is
# still going, and shows the end of the output only if it failed.
run_long() {
  local what=$1 log started pid status=0 ticks=0 traps
  shift
  log=$(mktemp)
  started=$SECONDS
  say "$what ..."
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  # Ctrl-C does not reach what runs in the background.
  traps=$(trap -p INT TERM)
  # shellcheck disable=SC2064
  trap "kill $pid 2>/dev/null || true; exit 130" INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    ticks=$((ticks + 1))
    if ((ticks % 75 == 0)); then
      say "  still at it: $what ($((SECONDS - started)) s) $(tail -n 1 "$log" | tr -cd '[:print:]' | cut -c1-80)"
    fi
  done
  wait "$pid" || status=$?
  trap - INT TERM
  eval "$traps"
  if ((status != 0)); then
    tail -n 40 "$log" >&2
    rm -f "$log"
    die "failed with status $status: $what"
  fi
  rm -f "$log"
  say "  done: $what ($((SECONDS - started)) s)"
}

# version_at_least HAVE WANT: dotted numbers.
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }
