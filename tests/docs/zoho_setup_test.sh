#!/usr/bin/env bash
# Does what docs/zoho-setup.md prints, with the real broker: step 2 as a whole, and the consent URL of
# step 3.
#
#   tests/docs/zoho_setup_test.sh TOKEN_BROKER_BINARY
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
document=$root/docs/zoho-setup.md
binary=$(realpath "${1:?the path of the token-broker binary is missing}")
export PATH=$root/.tools/bin:$PATH
work=$(mktemp -d)
run=
cleanup() {
  if [[ -n $run ]]; then kill "$(cat "$work/pid")" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  cat "$work"/*.log >&2 2>/dev/null || true
  exit 1
}

# block STEP LANGUAGE NUMBER: the text of a block of code.
block() {
  awk -v step="## $1. " -v fence="\`\`\`$2" -v number="$3" '
    /^## / { inside = index($0, step) == 1 }
    /^```/ { printing = inside && $0 == fence && ++seen == number; next }
    printing' "$document"
}

# The name that the document calls the broker by; the last one that is started is the one to end.
mkdir "$work/bin" "$work/home"
cat >"$work/bin/token-broker" <<SH
#!/bin/sh
echo \$\$ >"$work/pid"
exec "$binary" "\$@"
SH
chmod +x "$work/bin/token-broker"
export PATH=$work/bin:$PATH
cd "$work/home"

bash -euc "$(block 2 sh 1)" 2>"$work/keys.log" || fail "step 2: the keys cannot be made"
block 2 yaml 1 >token-broker.yaml
clients=0
while read -r file; do
  clients=$((clients + 1))
  openssl rand -hex 21 >"$file" || fail "step 2: there is no folder for $file"
done < <(grep -o 'client_secret_file: [^ },]*' token-broker.yaml | cut -d ' ' -f 2)
((clients >= 5)) || fail "step 2: the block has only $clients client secrets"
token-broker --config token-broker.yaml --print-config >"$work/config" 2>"$work/config.log" ||
  fail "step 2: the configuration does not load"
grep -qF 'listen: "127.0.0.1:8443"' "$work/config" || fail "step 3 calls localhost:8443"

# Free ports, so that nothing else on the machine matters.
export TOKENBROKER_GRPC_LISTEN=127.0.0.1:0 TOKENBROKER_OPS_LISTEN=127.0.0.1:0
exec 3< <(exec bash -euc "$(block 2 sh 2)" 2>"$work/broker.log")
run=$!
addresses='' valid=''
while [[ -z $addresses ]] && read -r line <&3; do
  case $line in
    *'configuration is valid'*) valid=yes ;;
    *'"grpc"'*) addresses=$line ;;
  esac
done
[[ -n $valid ]] || fail "step 2 does not validate the configuration"
[[ -n $addresses ]] || fail "step 2 does not start the broker"
[[ -s grants.db ]] || fail "the store is not where step 2 says"

grpc=$(jq -r .grpc <<<"$addresses")
consent=$(block 3 sh 1)
[[ $consent == *localhost:8443* ]] || fail "step 3 does not call localhost:8443"
url=$(bash -euo pipefail -c "${consent//localhost:8443/$grpc}" 2>"$work/consent.log") ||
  fail "step 3: no consent URL"
[[ $url == 'https://accounts.zoho.com/oauth/v2/auth?'* ]] || fail "step 3: the consent URL is $url"

kill "$(cat "$work/pid")"
cat <&3 >/dev/null
status=0
wait "$run" || status=$?
run=
((status == 0)) || fail "the broker ended with status $status"
printf 'all checks passed\n'
