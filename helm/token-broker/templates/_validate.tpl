{{/* What the schema can't say. All problems are reported at once. The broker validates its config
     by itself; here is only what lies between the config and Kubernetes. */}}
{{- define "token-broker.validate" -}}
{{- $problems := list -}}
{{- $config := .Values.config -}}
{{- $store := $config.store -}}
{{- if and $store.sqlite (gt (int .Values.replicaCount) 1) -}}
{{- $problems = append $problems (printf "replicaCount is %d, but the SQLite store is one file for one pod: set replicaCount to 1 or use config.store.redis" (int .Values.replicaCount)) -}}
{{- end -}}
{{- if $store.sqlite -}}
{{- if not (hasPrefix (printf "%s/" .Values.dataDir) $store.sqlite.path) -}}
{{- $problems = append $problems (printf "config.store.sqlite.path is %s, which is not on the volume at dataDir (%s)" $store.sqlite.path .Values.dataDir) -}}
{{- end -}}
{{- end -}}
{{- $listeners := dict "config.grpc.listen" $config.grpc.listen "config.ops.listen" $config.ops.listen "config.ops.callback_listen" $config.ops.callback_listen -}}
{{- range $key, $address := $listeners -}}
{{- if regexMatch "^(127\\.|localhost|\\[::1\\])" (default "" $address) -}}
{{- $problems = append $problems (printf "%s is %s, which nothing outside the pod can reach: use 0.0.0.0" $key $address) -}}
{{- end -}}
{{- end -}}
{{- if and (not $config.grpc.tls) (not .Values.insecure) -}}
{{- $problems = append $problems "config.grpc.tls is not set: set it (and secrets.grpcTls), or set insecure to true" -}}
{{- end -}}
{{- $folders := list -}}
{{- range fromYamlArray (include "token-broker.secretMounts" .) -}}
{{- $folders = append $folders .path -}}
{{- end -}}
{{- if ne (len $folders) (len (uniq $folders)) -}}
{{- $problems = append $problems "two entries of secrets.oauthClients have the same name" -}}
{{- end -}}
{{- range .Values.extraVolumeMounts -}}
{{- $folders = append $folders .mountPath -}}
{{- end -}}
{{- $references := dict -}}
{{- include "token-broker.fileReferences" (dict "node" $config "where" "config" "out" $references) -}}
{{- range $where := keys $references | sortAlpha -}}
{{- $file := get $references $where -}}
{{- $provided := hasPrefix "/etc/ssl/" $file -}}
{{- range $folders -}}
{{- if or (eq . $file) (hasPrefix (printf "%s/" .) $file) -}}{{- $provided = true -}}{{- end -}}
{{- end -}}
{{- if not $provided -}}
{{- $problems = append $problems (printf "%s is %s, but nothing is mounted there: see secrets" $where $file) -}}
{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n  - %s" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end -}}
