# Runs an image's file system the way the chart does, against a simulated Zoho: the image's user, a
# read-only root, one writable folder; asks for its health and for a token.
# shellcheck shell=bash

IMAGE_CHECK_PIDS=()
IMAGE_CHECK_WORK=

# image_check_end: ends and removes whatever a check has left; whoever calls image_check does so in
# its EXIT trap.
image_check_end() {
  local pid
  for pid in "${IMAGE_CHECK_PIDS[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  IMAGE_CHECK_PIDS=()
  if [[ -n $IMAGE_CHECK_WORK ]]; then rm -rf "$IMAGE_CHECK_WORK"; fi
  IMAGE_CHECK_WORK=
}

# image_check TREE USER SIMULATOR: TREE is the image's file system, USER is UID:GID.
image_check() {
  local tree=$1 user=$2 simulator=$3 work secrets client_secret
  work=$(mktemp -d)
  IMAGE_CHECK_WORK=$work
  secrets=$tree/etc/token-broker/secrets
  client_secret=$(openssl rand -hex 21)

  image_check_fail() {
    tail -n 20 "$work"/*.log >&2 || true
    die "in the image: $1"
  }
  image_check_wait() { # WHAT COMMAND...
    local what=$1 deadline=$((SECONDS + 30))
    shift
    until "$@" >/dev/null 2>&1; do
      ((SECONDS < deadline)) || image_check_fail "$what does not answer"
      sleep 0.1
    done
  }

  cat >"$work/zoho.json" <<JSON
{
  "dcs": ["eu"],
  "clients": [{"client_id": "1000.SELF", "type": "self_client", "home_dc": "eu",
               "secrets": {"eu": "$client_secret"}}],
  "users": [{"user_id": "ana", "dc": "eu", "orgs": [{"org_id": "60001", "name": "Acme"}]}]
}
JSON
  "$simulator" --config "$work/zoho.json" --port-file "$work/ports.json" >"$work/zoho.log" 2>&1 &
  IMAGE_CHECK_PIDS+=($!)
  image_check_wait "the simulator" test -s "$work/ports.json"
  local control code
  control=$(jq -r .control "$work/ports.json")
  code=$(curl --silent --fail --noproxy '*' "$control/control/codes" --data \
    '{"client_id":"1000.SELF","user_id":"ana","scopes":"ZOHOPEOPLE.forms.READ"}' | jq -r .code)

  install -d -m 0755 "$secrets"
  printf '%s' "$client_secret" >"$secrets/eu"
  openssl rand -base64 32 >"$secrets/key"
  chown -R "$user" "$secrets"
  chmod 0400 "$secrets"/*
  cat >"$tree/etc/token-broker/config.yaml" <<YAML
grpc:
  listen: 127.0.0.1:0
ops:
  listen: 127.0.0.1:0
store:
  sqlite:
    path: /var/lib/token-broker/grants.db
  keyring:
    keys:
      - {id: k1, key_file: /etc/token-broker/secrets/key}
oauth_clients:
  - name: own
    type: SELF_CLIENT
    client_id: 1000.SELF
    dc_secrets:
      - {dc: eu, client_secret_file: /etc/token-broker/secrets/eu}
data_centers:
  - {name: eu, accounts_server: "$(jq -r .dcs.eu.http "$work/ports.json")"}
zoho:
  allow_plaintext_loopback: true
YAML
  chmod 0644 "$tree/etc/token-broker/config.yaml"

  # A mount namespace of its own, so that nothing stays mounted.
  # shellcheck disable=SC2016
  unshare --mount bash -euc '
    mount --bind "$1" "$1"
    mount -t proc proc "$1/proc"
    mount --bind /dev "$1/dev"
    mount -t tmpfs -o "uid=${2%:*},gid=${2#*:},mode=0700" tmpfs "$1/var/lib/token-broker"
    mount -o remount,bind,ro "$1"
    exec chroot --userspec="$2" "$1" /usr/bin/token-broker --config /etc/token-broker/config.yaml
  ' image_check "$tree" "$user" >"$work/broker.out" 2>"$work/broker.log" &
  local broker=$!
  IMAGE_CHECK_PIDS+=("$broker")
  image_check_wait "the broker" grep -q '"grpc"' "$work/broker.out"
  local grpc ops
  grpc=$(grep '"grpc"' "$work/broker.out" | jq -r .grpc)
  ops=$(grep '"grpc"' "$work/broker.out" | jq -r .ops)
  call() { "$TOOLS_DIR/bin/grpcurl" -plaintext -max-time 20 "$@"; }

  call "$grpc" grpc.health.v1.Health/Check | grep -q '"SERVING"' || image_check_fail "health is not SERVING"
  curl --silent --fail --noproxy '*' "http://$ops/readyz" >/dev/null || image_check_fail "/readyz refuses"
  curl --silent --fail --noproxy '*' "http://$ops/livez" >/dev/null || image_check_fail "/livez refuses"
  call -d "{\"org_id\":\"acme\",\"oauth_client\":\"own\",\"dc\":\"eu\",\"authorization_code\":{\"code\":\"$code\"}}" \
    "$grpc" tokenbroker.v1.TokenService/RegisterGrant >/dev/null 2>>"$work/grpcurl.log" ||
    image_check_fail "RegisterGrant fails"
  call -d '{"org_id":"acme"}' "$grpc" tokenbroker.v1.TokenService/GetAccessToken 2>>"$work/grpcurl.log" |
    jq -e '(.access_token | startswith("1000.")) and .dc == "eu"' >/dev/null || image_check_fail "no token"

  # SIGTERM to the process, as the kubelet sends it: it has to end by itself and with status 0.
  local status=0
  kill "$broker"
  wait "$broker" || status=$?
  ((status == 0)) || image_check_fail "ended with status $status on SIGTERM"
  image_check_end
  say "in the image: healthy, issued a token, ended with status 0 on SIGTERM (read-only root, user $user)"
}
