#!/usr/bin/env bash
# Tests of helm/token-broker with the real helm and the real broker.
#
#   tests/helm/chart_test.sh TOKEN_BROKER_BINARY
#   tests/helm/chart_test.sh --update-schema      after a change of the config's proto
#
# For every scenario in ci/: lint, render, look at the manifests, and give the rendered config with
# made-up secret files to the binary's --validate-config. Then: values that must be refused.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
chart=$root/helm/token-broker
schema=$chart/values.schema.json
export PATH=$root/.tools/bin:$PATH
# The user's own helm plugins and repositories have no part in this.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HELM_CONFIG_HOME=$work/helm HELM_CACHE_HOME=$work/helm HELM_DATA_HOME=$work/helm

config_schema() {
  (cd "$root" && buf build protos -o -#format=json) | node "$here/config_schema.mjs" "$1" "$schema"
}
if [[ ${1:-} == --update-schema ]]; then
  config_schema write
  exit 0
fi
binary=$(realpath "${1:?the path of the token-broker binary is missing}")

failures=0
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  failures=$((failures + 1))
}

# check WHAT MANIFESTS JQ_FILTER: the filter is true of the array of manifests.
check() {
  jq -e "def all_of(k): [.[] | select(.kind == k)];
         def one(k): all_of(k) | if length == 1 then .[0] else error(\"\(length) of kind \(k)\") end;
         def pod: one(\"Deployment\").spec.template.spec;
         def container: pod.containers[0];
         $3" "$2" >/dev/null 2>"$work/jq.err" || {
    fail "$scenario: $1"
    cat "$work/jq.err" >&2
  }
}

render() { # SCENARIO [HELM ARGUMENTS...]
  local values=$chart/ci/$1-values.yaml
  shift
  helm template broker "$chart" --namespace tokens --kube-version 1.25.0 -f "$values" "$@"
}

# The files that the config names, with content that the binary accepts, below a root of their own.
make_secret_files() { # CONFIG_JSON FILE_ROOT
  local file
  while read -r file; do
    mkdir -p "$2$(dirname "$file")"
    case $file in
      */keyring/* | */consent/*) openssl rand -base64 32 >"$2$file" ;;
      */tls.crt | */tls.key | */ca.crt) ;;
      *) openssl rand -hex 21 >"$2$file" ;;
    esac
  done < <(jq -r '.. | objects | to_entries[] | select(.key | endswith("_file")) | .value' "$1")
  local tls
  for tls in "$2"/etc/token-broker/secrets/{grpc,redis}-tls; do
    [[ -d $tls ]] || continue
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
      -keyout "$tls/tls.key" -out "$tls/tls.crt" 2>/dev/null
    cp "$tls/tls.crt" "$tls/ca.crt"
  done
}

test_scenario() { # SCENARIO
  scenario=$1
  local manifests=$work/$scenario.json config=$work/$scenario.yaml flags=()
  helm lint "$chart" --strict --quiet -f "$chart/ci/$scenario-values.yaml" || fail "$scenario: helm lint"
  render "$scenario" | yaml --json >"$manifests" || {
    fail "$scenario: helm template"
    return 0
  }

  check "restricted pod security" "$manifests" '
    pod.securityContext.runAsNonRoot and pod.securityContext.runAsUser == 65532
    and pod.securityContext.seccompProfile.type == "RuntimeDefault"
    and container.securityContext.readOnlyRootFilesystem
    and container.securityContext.allowPrivilegeEscalation == false
    and container.securityContext.capabilities.drop == ["ALL"]
    and pod.automountServiceAccountToken == false and pod.enableServiceLinks == false'
  check "no Secret is made" "$manifests" 'all_of("Secret") == []'
  check "the pod carries the config's checksum" "$manifests" \
    'one("Deployment").spec.template.metadata.annotations["checksum/config"] | test("^[0-9a-f]{64}$")'
  check "every mount has its volume and the reverse" "$manifests" \
    '([container.volumeMounts[].name] | sort) == ([pod.volumes[].name] | sort)'
  check "both Services select the pods and reach ports that exist" "$manifests" '
    . as $all | all_of("Service") | length == 2 and all(.[];
      .spec.selector == ($all | one("Deployment").spec.selector.matchLabels)
      and all(.spec.ports[]; .targetPort as $port
        | any($all | container.ports[]; .name == $port)))'
  check "one Service is headless, with the pods' own ports" "$manifests" '
    . as $all | all_of("Service") | map(select(.spec.clusterIP == "None")) | length == 1
      and all(.[0].spec.ports[]; . as $port
        | any($all | container.ports[]; .name == $port.targetPort and .containerPort == $port.port))'
  check "probes ask the ops port" "$manifests" '
    container | .readinessProbe.httpGet == {path: "/readyz", port: "ops"}
      and .livenessProbe.httpGet == {path: "/livez", port: "ops"}
      and .startupProbe.httpGet == {path: "/livez", port: "ops"}'

  # 40 MiB, 1.5 kB per token and gRPC's quota: see values.yaml.
  jq -r '.[] | select(.kind == "ConfigMap") | .data["config.yaml"]' "$manifests" | yaml --json |
    jq '.[0] | 40 + (.issuing.cache_entries // 1000000) * 1500 / 1048576
             + (.grpc.memory_quota_mib // 512)' >"$work/mib"
  check "the memory limit has room for the cache and gRPC's quota" "$manifests" '
    container.resources.limits.memory | capture("^(?<n>[0-9]+)(?<unit>[MG])i$")
    | (.n | tonumber) * (if .unit == "G" then 1024 else 1 end) >= '"$(cat "$work/mib")"

  # The config as the broker will see it, and as it was given: the chart must not change a value.
  jq -r '.[] | select(.kind == "ConfigMap") | .data["config.yaml"]' "$manifests" >"$config"
  yaml --json <"$config" | jq '.[0]' >"$work/$scenario-config.json"
  yaml --json <"$chart/values.yaml" | jq '.[0].config' >"$work/defaults.json"
  yaml --json <"$chart/ci/$scenario-values.yaml" | jq '.[0].config' >"$work/given.json"
  jq -e --slurpfile defaults "$work/defaults.json" --slurpfile given "$work/given.json" \
    '. == ($defaults[0] * $given[0])' "$work/$scenario-config.json" >/dev/null ||
    fail "$scenario: the config was changed on its way into the ConfigMap"

  if jq -e '.[] | select(.kind == "Deployment") | .spec.template.spec.containers[0].args
            | index("--insecure")' "$manifests" >/dev/null; then
    flags+=(--insecure)
  fi
  local file_root=$work/$scenario-files
  make_secret_files "$work/$scenario-config.json" "$file_root"
  "$binary" --validate-config --config "$config" --file-root "$file_root" "${flags[@]}" \
    >"$work/out" 2>&1 || {
    fail "$scenario: the broker refuses the rendered config"
    cat "$work/out" >&2
  }
  # And it does look: without the files it must say so.
  if "$binary" --validate-config --config "$config" --file-root "$work/nothing" "${flags[@]}" \
    >/dev/null 2>&1; then
    fail "$scenario: the broker accepts the config without its secret files"
  fi
  printf 'scenario %s: looked at\n' "$scenario"
}

# refused WHAT WORDS HELM_ARGUMENTS...: rendering fails, and the message has the words.
refused() {
  local what=$1 words=$2
  shift 2
  if render sqlite "$@" >/dev/null 2>"$work/err"; then
    fail "not refused: $what"
  elif ! grep -qF -e "$words" "$work/err"; then
    fail "refused for another reason: $what"
    cat "$work/err" >&2
  fi
}

# accepted WHAT HELM_ARGUMENTS... JQ_FILTER
accepted() {
  local what=$1
  shift
  scenario=accepted
  local filter=${!#}
  if render sqlite "${@:1:$#-1}" 2>"$work/err" | yaml --json >"$work/accepted.json"; then
    check "$what" "$work/accepted.json" "$filter"
  else
    fail "not accepted: $what"
    cat "$work/err" >&2
  fi
}

config_schema check || fail "values.schema.json does not have the config's proto in it"

# Every object of the values is closed, but for those whose inside the chart's README leaves to
# Kubernetes. (What `config` adds to the proto's schema refines objects that are closed there.)
open_objects=$(jq -r 'def walk_from(path):
    (if .type == "object" and (has("additionalProperties") | not) then path else empty end),
    (.properties // {} | to_entries[] | .key as $key | .value | walk_from(path + [$key])),
    (.items // empty | walk_from(path + ["[]"])),
    (.patternProperties // {} | .[] | walk_from(path + ["*"])),
    (if .type == "array" and (has("items") | not) then path else empty end);
  del(.properties.config) | [walk_from([]) | join(".")] | sort | join(" ")' "$schema")
[[ $open_objects == "affinity.nodeAffinity affinity.podAffinity affinity.podAntiAffinity extraVolumes.[] global" ]] ||
  fail "values.schema.json has other open objects than those known here: $open_objects"

for values in "$chart"/ci/*-values.yaml; do
  name=$(basename "$values" -values.yaml)
  test_scenario "$name"
done

scenario=sqlite
check "one pod that is never there twice, on a claim" "$work/sqlite.json" '
  one("Deployment").spec | .replicas == 1 and .strategy == {type: "Recreate"}'
check "a claim that the release does not take with it" "$work/sqlite.json" '
  one("PersistentVolumeClaim").metadata.annotations["helm.sh/resource-policy"] == "keep"'
check "grace period: 5 s pause, 25 s drain, 5 s to end" "$work/sqlite.json" '
  pod.terminationGracePeriodSeconds == 35 and container.lifecycle.preStop.exec.command == ["sleep", "5"]'
scenario=redis
check "no claim; rolling update; disruption budget; spread" "$work/redis.json" '
  all_of("PersistentVolumeClaim") == [] and one("Deployment").spec.strategy.type == "RollingUpdate"
  and one("PodDisruptionBudget").spec.maxUnavailable == 1
  and (pod.topologySpreadConstraints | length) == 1'
check "grace period follows the drain" "$work/redis.json" 'pod.terminationGracePeriodSeconds == 50'
check "TLS, so not --insecure" "$work/redis.json" \
  'container.args | index("--insecure") == null'
scenario=redis-sentinel
check "a Secret for Redis, its Sentinels and its TLS" "$work/redis-sentinel.json" '
  [pod.volumes[] | select(.secret) | .secret.secretName]
  | contains(["redis-token-broker", "redis-sentinel-token-broker", "redis-token-broker-tls"])'
scenario=redis-two-clients
check "a Secret per OAuth client" "$work/redis-two-clients.json" '
  [pod.volumes[] | select(.secret) | .secret.secretName] | contains(["zoho-people", "zoho-reports"])'
check "the callback's port" "$work/redis-two-clients.json" '
  [container.ports[].name] | contains(["callback"])'

refused "an unknown value" "unknown_value" --set unknown_value=1
refused "an unknown value inside" "memry" --set-json 'persistence={"memry":"1Gi"}'
refused "a value of the wrong type" "replicaCount" --set-string replicaCount=one
refused "a misspelt limit" "'limts' not allowed" --set resources.limts.memory=1Gi
refused "a misspelt resource" "'memry' not allowed" --set resources.limits.memry=1Gi
refused "a quantity with a wrong unit" "resources/limits/memory" --set resources.limits.memory=1GB
refused "a misspelt user of the pod" "'runAsUsr' not allowed" --set podSecurityContext.runAsUsr=1000
refused "a misspelt user of the container" "'runAsUsr' not allowed" --set securityContext.runAsUsr=1000
refused "a misspelt list of capabilities" "'dropp' not allowed" --set-json 'securityContext.capabilities={"dropp":["ALL"]}'
refused "a misspelt seccomp profile" "seccompProfile/type" \
  --set podSecurityContext.seccompProfile.type=RuntimeDefalt
refused "an environment variable's misspelt value" "'valu' not allowed" --set-json 'extraEnv=[{"name":"A","valu":"b"}]'
refused "an environment variable without a name" "missing property 'name'" --set-json 'extraEnv=[{"value":"b"}]'
refused "an environment variable's misspelt source" "'secretRef' not allowed" \
  --set-json 'extraEnv=[{"name":"A","valueFrom":{"secretRef":{"name":"s","key":"k"}}}]'
refused "a misspelt mount" "'mountpath' not allowed" \
  --set-json 'extraVolumeMounts=[{"name":"x","mountPath":"/x","mountpath":"/y"}]'
refused "a volume without a name" "missing property 'name'" --set-json 'extraVolumes=[{"emptyDir":{}}]'
refused "a volume of two kinds" "maxProperties" \
  --set-json 'extraVolumes=[{"name":"x","emptyDir":{},"secret":{"secretName":"s"}}]'
refused "a misspelt toleration" "'efect' not allowed" --set-json 'tolerations=[{"key":"a","efect":"NoSchedule"}]'
refused "a misspelt affinity" "'nodeAfinity' not allowed" --set-json 'affinity={"nodeAfinity":{}}'
refused "a misspelt spread" "'topologykey' not allowed" --set-json 'topologySpreadConstraints=[{"maxSkew":1,
  "topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway","topologykey":"zone"}]'
refused "a mistyped key of the config" "refresh_ahed" --set config.issuing.refresh_ahed=600s
refused "a duration without a unit" "refresh_ahead" --set-string config.issuing.refresh_ahead=600
refused "an unknown client type" "type" --set config.oauth_clients[0].type=DESKTOP
refused "no OAuth client" "oauth_clients" --set-json 'config.oauth_clients=[]'
refused "no store" "store" --set-json 'config.store.sqlite=null'
refused "two stores" "store" --set config.store.redis.address=redis:6379 --set config.store.redis.replica_acks=0
refused "an unknown risk" "accept_risks" --set-json 'config.store.redis={"accept_risks":["FIRE"]}'
refused "a Redis certificate that nothing mounts" "config.store.redis.tls.ca_file is" \
  --set config.store.redis.tls.ca_file=/etc/token-broker/secrets/redis-tls/ca.crt
refused "a Redis in two places" "redis" --set-json 'config.store={"sqlite":null,"redis":{"replica_acks":0,
  "address":"r:1","cluster":{"addresses":["n:1"]}}}'
refused "several pods on SQLite" "the SQLite store is one file for one pod" --set replicaCount=2
refused "a database beside the volume" "is not on the volume" --set config.store.sqlite.path=/tmp/grants.db
refused "gRPC on loopback" "config.grpc.listen is 127.0.0.1:8443" --set config.grpc.listen=127.0.0.1:8443
refused "the callback on loopback" "config.ops.callback_listen is localhost:8080" \
  --set config.ops.callback_listen=localhost:8080
refused "a random port" "listen" --set config.ops.listen=0.0.0.0:0
refused "plain text without saying so" "config.grpc.tls is not set" --set insecure=false
refused "a secret file that nothing mounts" \
  "config.oauth_clients[0].client_secret_file is /etc/token-broker/secrets/oauth-clients/peple/x" \
  --set config.oauth_clients[0].client_secret_file=/etc/token-broker/secrets/oauth-clients/peple/x
refused "a mount that was forgotten" "config.store.keyring.keys[0].key_file is" \
  --set secrets.keyring.existingSecret=
refused "a secret in the values" "client_secret" --set config.oauth_clients[0].client_secret=hunter2

accepted "an emptyDir where persistence is off" --set persistence.enabled=false \
  'any(pod.volumes[]; .name == "data" and .emptyDir == {}) and all_of("PersistentVolumeClaim") == []'
accepted "a claim that exists" --set persistence.existingClaim=mine \
  'any(pod.volumes[]; .persistentVolumeClaim.claimName == "mine") and all_of("PersistentVolumeClaim") == []'
accepted "a digest wins over the tag" \
  --set "image.digest=sha256:$(printf '0%.0s' {1..64})" --set image.tag=x \
  'container.image | endswith("@sha256:" + ("0" * 64))'
accepted "a request that takes longer than the drain" --set config.grpc.drain_timeout=1s \
  'pod.terminationGracePeriodSeconds == 28'
accepted "durations in other units are rounded up" --set config.grpc.drain_timeout=3500ms \
  --set-json 'config.protocol={"connect_timeout":"500ms","response_timeout":"300ms","commit_budget":"1ms"}' \
  'pod.terminationGracePeriodSeconds == 14'
accepted "a file of an extra volume" \
  --set config.zoho.ca_file=/etc/extra/ca.crt \
  --set-json 'extraVolumes=[{"name":"extra","secret":{"secretName":"ca"}}]' \
  --set-json 'extraVolumeMounts=[{"name":"extra","mountPath":"/etc/extra"}]' \
  'any(container.volumeMounts[]; .mountPath == "/etc/extra")'
accepted "what Kubernetes knows of resources, variables and security contexts" --set-json 'resources={
    "limits":{"cpu":2,"ephemeral-storage":"1.5Gi","example.com/part":1,"memory":null},"claims":[{"name":"c"}]}' \
  --set-json 'extraEnv=[{"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}},
    {"name":"CPUS","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"1m"}}}]' \
  --set-json 'podSecurityContext={"fsGroup":null,"sysctls":[{"name":"net.core.somaxconn","value":"1024"}]}' \
  --set-json 'securityContext={"capabilities":null,"seccompProfile":{"type":"Localhost","localhostProfile":"p"}}' \
  '(container.resources.limits | .cpu == 2 and has("memory") == false) and (container.env | length) == 2
   and (pod.securityContext | .runAsUser == 65532 and has("fsGroup") == false)
   and (container.securityContext | has("capabilities") == false)'
accepted "what Kubernetes knows of where pods go" \
  --set-json 'tolerations=[{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":60}]' \
  --set-json 'affinity={"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[]}}' \
  --set-json 'topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule",
    "labelSelector":{"matchExpressions":[{"key":"app","operator":"In","values":["a"]}]}}]' \
  '(pod.tolerations + pod.topologySpreadConstraints | length) == 2 and (pod.affinity | has("podAntiAffinity"))'

# A change of the config changes the pods; a change elsewhere does not.
checksum() { render sqlite "$@" | yaml --json | jq -r '.[] | select(.kind == "Deployment")
  | .spec.template.metadata.annotations["checksum/config"]'; }
[[ $(checksum) == "$(checksum --set resources.requests.cpu=2)" ]] || fail "checksum: changes without need"
[[ $(checksum) != "$(checksum --set config.log.level=DEBUG)" ]] || fail "checksum: the config does not show"

# `helm template` renders NOTES.txt without showing it; in a copy of the chart it is a manifest.
cp -r "$chart" "$work/chart"
{
  printf '{{ define "notes" }}'
  cat "$chart/templates/NOTES.txt"
  printf '{{ end }}\nkind: Notes\nnotes: {{ include "notes" . | toJson }}\n'
} >"$work/chart/templates/notes.yaml"
notes() {
  helm template broker "$work/chart" --namespace tokens -f "$chart/ci/$1-values.yaml" "${@:2}" |
    yaml --json | jq -r '.[] | select(.kind == "Notes") | .notes'
}
notes sqlite --set persistence.enabled=false | grep -q 'persistence.enabled is false' ||
  fail "NOTES.txt does not warn of lost grants"
notes redis | grep -q 'WARNING' && fail "NOTES.txt warns without need"
notes redis-two-clients | grep -q 'dns:///broker-token-broker-headless.tokens.svc:9443' ||
  fail "NOTES.txt names another address than the headless Service's"

# Who follows the README with the values that it recommends has every Secret, with every key.
looked_at=0
readme_secrets=$(sed -n 's/^kubectl create secret generic \([^ ]*\) --from-file=\([^= ]*\)=.*/\1 \2/p' "$chart/README.md")
while read -r mount secret; do
  while read -r file; do
    looked_at=$((looked_at + 1))
    grep -qxF "$secret ${file##*/}" <<<"$readme_secrets" ||
      fail "README.md does not make the key ${file##*/} of the Secret $secret"
  done < <(jq -r --arg mount "$mount/" '.. | strings | select(startswith($mount))' "$work/sqlite-config.json")
done < <(jq -r '.[] | select(.kind == "Deployment") | .spec.template.spec
  | (.volumes | map({(.name): .secret.secretName}) | add) as $secrets
  | .containers[0].volumeMounts[] | select($secrets[.name]) | "\(.mountPath) \($secrets[.name])"' \
  "$work/sqlite.json")
((looked_at >= 2)) || fail "the README's Secrets were not looked at"

helm package "$chart" --destination "$work" >/dev/null || fail "helm package"
tar -tzf "$work"/token-broker-*.tgz | grep -q '/ci/' && fail "the package has the test scenarios in it"

if ((failures > 0)); then
  printf '%d checks failed\n' "$failures" >&2
  exit 1
fi
printf 'all checks passed\n'
