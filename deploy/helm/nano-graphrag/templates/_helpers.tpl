{{- define "nano-graphrag.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "nano-graphrag.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nano-graphrag.labels" -}}
{{ include "nano-graphrag.selector" . }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
{{- /* Of a label's alphabet and length: a tag may be longer, and be followed by a digest. */}}
{{- with regexReplaceAll "@.*" .Values.image.tag "" | trunc 63 | trimAll "-_." }}
app.kubernetes.io/version: {{ . | quote }}
{{- end }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "nano-graphrag.metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "nano-graphrag.labels" . | nindent 2 }}
{{- end -}}

{{/* The pods of the service say component: service, those of jobs component: job. */}}
{{- define "nano-graphrag.image" -}}
{{ required "image.repository: name the image of your service" .Values.image.repository }}:{{ required "image.tag: name a version of your image, not latest" .Values.image.tag }}
{{- end -}}

{{/* Here and not in the schema, whose messages show the value. */}}
{{- define "nano-graphrag.url" -}}
{{- $url := .Values.redis.url -}}
{{- $mode := .Values.redis.mode -}}
{{- if contains "@" $url -}}
{{- fail "redis.url has a login in it: put the password into a Secret, and name that in redis.auth.existingSecret" -}}
{{- else if and (eq $mode "sentinel") (not (regexMatch "^rediss?\\+sentinel://" $url)) -}}
{{- fail "redis.url: mode sentinel wants redis+sentinel://HOST:PORT,HOST:PORT, or rediss+sentinel:// for TLS" -}}
{{- else if and (ne $mode "sentinel") (not (regexMatch "^rediss?://" $url)) -}}
{{- fail (printf "redis.url: mode %s wants redis://HOST:PORT, or rediss:// for TLS" $mode) -}}
{{- else if and (eq $mode "standalone") (contains "," $url) -}}
{{- fail "redis.url names several servers: set redis.mode to cluster or sentinel" -}}
{{- else if and .Values.redis.tls.existingSecret (not (hasPrefix "rediss" $url)) -}}
{{- fail "redis.url: redis.tls wants rediss://, or rediss+sentinel://" -}}
{{- end -}}
{{- /* What more is allowed may be any port. */}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.extraEgress) -}}
{{- $open := list -}}
{{- range .Values.networkPolicy.redisPorts -}}
{{- $open = append $open (int64 . | toString) -}}
{{- end -}}
{{- range splitList "," $url -}}
{{- $server := regexReplaceAll "^([a-z+]+://)?([^/?]*).*$" . "${2}" -}}
{{- $port := regexFind ":[0-9]+$" $server | trimPrefix ":" | default (ternary "26379" "6379" (eq $mode "sentinel")) -}}
{{- if not (has $port $open) -}}
{{- fail (printf "redis.url: %s is at port %s, which networkPolicy.redisPorts does not open" $server $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $url -}}
{{- end -}}

{{/* Helm reads every number as a float, which shows a million as 1e+06, and YAML reads on and off as booleans. */}}
{{- define "nano-graphrag.setting" -}}
{{- if kindIs "bool" . -}}
{{- ternary "on" "off" . -}}
{{- else if and (kindIs "float64" .) (eq . (floor .)) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{- define "nano-graphrag.pod" -}}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsUser: {{ int64 .Values.user }}
  runAsGroup: {{ int64 .Values.user }}
  fsGroup: {{ int64 .Values.user }}
  fsGroupChangePolicy: OnRootMismatch
  runAsNonRoot: true
  seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "nano-graphrag.container" -}}
image: {{ include "nano-graphrag.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- with .Values.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* Last, since the jobs add to it. */}}
env:
  - { name: STORAGE_KV_BACKEND, value: redis }
  - { name: REDIS_URL, value: {{ include "nano-graphrag.url" . | quote }} }
  {{- if eq .Values.redis.mode "cluster" }}
  - { name: REDIS_CLUSTER, value: "true" }
  {{- end }}
  {{- if eq .Values.redis.mode "sentinel" }}
  - { name: REDIS_SENTINEL_MASTER, value: {{ .Values.redis.sentinelMaster | quote }} }
  {{- end }}
  {{- with .Values.redis.auth }}
  {{- if .username }}
  - { name: REDIS_USERNAME, value: {{ .username | quote }} }
  {{- end }}
  {{- if .existingSecret }}
  - { name: REDIS_PASSWORD_FILE, value: {{ printf "/run/secrets/redis/%s" .passwordKey | quote }} }
  {{- end }}
  {{- if .sentinelUsername }}
  - { name: REDIS_SENTINEL_USERNAME, value: {{ .sentinelUsername | quote }} }
  {{- end }}
  {{- if .sentinelPasswordKey }}
  - name: REDIS_SENTINEL_PASSWORD
    valueFrom:
      secretKeyRef: { name: {{ .existingSecret }}, key: {{ .sentinelPasswordKey }} }
  {{- end }}
  {{- end }}
  {{- with .Values.redis.tls }}
  {{- if .existingSecret }}
  - { name: REDIS_TLS_CA_FILE, value: /run/secrets/redis-tls/ca.crt }
  {{- if .clientCertificate }}
  - { name: REDIS_TLS_CERT_FILE, value: /run/secrets/redis-tls/tls.crt }
  - { name: REDIS_TLS_KEY_FILE, value: /run/secrets/redis-tls/tls.key }
  {{- end }}
  {{- end }}
  {{- end }}
  {{- range $name, $value := .Values.settings }}
  - { name: {{ $name }}, value: {{ include "nano-graphrag.setting" $value | quote }} }
  {{- end }}
  - { name: PYTHONHASHSEED, value: {{ .Values.pythonHashSeed | quote }} }
  - { name: PYTHONDONTWRITEBYTECODE, value: "1" }
  - { name: HOME, value: /tmp }
  - { name: WORKING_DIR, value: /work }
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "nano-graphrag.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if .Values.redis.auth.existingSecret }}
- { name: redis-auth, mountPath: /run/secrets/redis, readOnly: true }
{{- end }}
{{- if .Values.redis.tls.existingSecret }}
- { name: redis-tls, mountPath: /run/secrets/redis-tls, readOnly: true }
{{- end }}
{{- end -}}

{{- define "nano-graphrag.volumes" -}}
- { name: tmp, emptyDir: { sizeLimit: 1Gi } }
- name: work
  persistentVolumeClaim: { claimName: {{ .Values.workdir.existingClaim | default (printf "%s-work" (include "nano-graphrag.fullname" .)) }} }
{{- with .Values.redis.auth }}
{{- if .existingSecret }}
- name: redis-auth
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - { key: {{ .passwordKey }}, path: {{ .passwordKey }} }
{{- end }}
{{- end }}
{{- with .Values.redis.tls }}
{{- if .existingSecret }}
- name: redis-tls
  secret: { secretName: {{ .existingSecret }}, defaultMode: 0440 }
{{- end }}
{{- end }}
{{- end -}}

{{- define "nano-graphrag.backup-volume" -}}
- name: backup
  persistentVolumeClaim: { claimName: {{ .Values.backup.existingClaim | default (printf "%s-backup" (include "nano-graphrag.fullname" .)) }} }
{{- end -}}
