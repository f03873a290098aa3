{{- define "token-broker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters: "-headless" and "-test-ready" have to fit into a DNS label. */}}
{{- define "token-broker.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "token-broker.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "token-broker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "token-broker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "token-broker.labels" -}}
{{ include "token-broker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "token-broker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "token-broker.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "token-broker.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The port of an address such as "0.0.0.0:8443". */}}
{{- define "token-broker.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{/* Whole seconds, rounded up, of a duration of the broker's config: 250ms, 5s, 10m, 1h. */}}
{{- define "token-broker.seconds" -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $factor := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) $unit -}}
{{- ceil (mulf $number $factor) | int -}}
{{- end -}}

{{/* Longest life of a pod after it was told to end: the preStop pause, the broker's drain, or a
     request that left just before that, where it may take longer, and 5 s for the process to come
     down. */}}
{{- define "token-broker.gracePeriod" -}}
{{- $drain := include "token-broker.seconds" .Values.config.grpc.drain_timeout | int -}}
{{- $request := 0 -}}
{{- range $key, $default := dict "connect_timeout" "3s" "response_timeout" "10s" "commit_budget" "5s" -}}
{{- $value := get (default dict $.Values.config.protocol) $key | default $default -}}
{{- $request = add $request (include "token-broker.seconds" $value | int) -}}
{{- end -}}
{{- add .Values.preStopSeconds (max $drain $request) 5 -}}
{{- end -}}

{{/* The mounted Secrets, as a YAML list of {name, secret, path}. */}}
{{- define "token-broker.secretMounts" -}}
{{- $root := "/etc/token-broker/secrets" -}}
{{- range .Values.secrets.oauthClients }}
- name: oauth-client-{{ .name }}
  secret: {{ .existingSecret }}
  path: {{ $root }}/oauth-clients/{{ .name }}
{{- end }}
{{- range $role := list "redis" "redisSentinel" "redisTls" "keyring" "grpcTls" "consent" }}
{{- with (get $.Values.secrets $role).existingSecret }}
- name: {{ kebabcase $role }}
  secret: {{ . }}
  path: {{ $root }}/{{ kebabcase $role }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Collects into .out every *_file below .node: {where: file}. */}}
{{- define "token-broker.fileReferences" -}}
{{- $out := .out -}}
{{- $where := .where -}}
{{- if kindIs "map" .node -}}
{{- range $key, $value := .node -}}
{{- if and (hasSuffix "_file" $key) (kindIs "string" $value) -}}
{{- $_ := set $out (printf "%s.%s" $where $key) $value -}}
{{- else -}}
{{- include "token-broker.fileReferences" (dict "node" $value "where" (printf "%s.%s" $where $key) "out" $out) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .node -}}
{{- range $index, $value := .node -}}
{{- include "token-broker.fileReferences" (dict "node" $value "where" (printf "%s[%d]" $where $index) "out" $out) -}}
{{- end -}}
{{- end -}}
{{- end -}}
