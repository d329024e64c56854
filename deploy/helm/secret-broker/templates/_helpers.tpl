{{- define "secret-broker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "secret-broker.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "secret-broker.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "secret-broker.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "secret-broker.operator" -}}{{ include "secret-broker.fullname" . }}-operator{{- end -}}
{{- define "secret-broker.webhook" -}}{{ include "secret-broker.fullname" . }}-webhook{{- end -}}

{{- define "secret-broker.operator.account" -}}
{{- default (include "secret-broker.operator" .) .Values.operator.serviceAccount.name -}}
{{- end -}}
{{- define "secret-broker.webhook.account" -}}
{{- default (include "secret-broker.webhook" .) .Values.webhook.serviceAccount.name -}}
{{- end -}}

{{- define "secret-broker.operator.tls" -}}
{{- if .Values.operator.tls.secretName -}}{{ .Values.operator.tls.secretName }}
{{- else if .Values.operator.tls.certManager.enabled -}}{{ include "secret-broker.operator" . }}-tls
{{- end -}}
{{- end -}}

{{- define "secret-broker.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}{{ .Values.image.repository }}:{{ $tag }}@{{ .Values.image.digest }}
{{- else -}}{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{/* Call with (dict "root" $ "part" "operator"). */}}
{{- define "secret-broker.selector" -}}
app.kubernetes.io/name: {{ include "secret-broker.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "secret-broker.labels" -}}
{{ include "secret-broker.selector" . }}
app.kubernetes.io/part-of: secret-broker
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the Pod Security profile "restricted" asks for, of pods and of containers. */}}
{{- define "secret-broker.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end -}}
{{- define "secret-broker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Probes on the plain health port. */}}
{{- define "secret-broker.probes" -}}
startupProbe:
  httpGet: { path: /startupz, port: health }
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /livez, port: health }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: health }
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}

{{/* What places pods. Call with (dict "root" $ "part" "operator" "values" .Values.operator). */}}
{{- define "secret-broker.placement" -}}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.affinity }}
affinity: {{- toYaml .values.affinity | nindent 2 }}
{{- else }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "secret-broker.selector" . | nindent 14 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A value as TOML. JSON's strings, numbers and booleans are TOML's too. */}}
{{- define "secret-broker.toml.value" -}}
{{- if kindIs "map" . -}}
{ {{ range $i, $key := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ toJson $key }} = {{ include "secret-broker.toml.value" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $i, $value := . }}{{ if $i }}, {{ end }}{{ include "secret-broker.toml.value" $value }}{{ end }}]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{- define "secret-broker.toml.keys" -}}
{{- range $key := keys . | sortAlpha }}
{{ $key }} = {{ include "secret-broker.toml.value" (get $ $key) }}
{{- end }}
{{- end -}}

{{/* A whole TOML document: plain keys, then tables, each secret as a table of its own. */}}
{{- define "secret-broker.toml" -}}
{{- $document := . -}}
{{- range $key := keys . | sortAlpha }}{{- $value := get $document $key }}
{{- if not (or (kindIs "map" $value) (and (kindIs "slice" $value) (kindIs "map" (first $value)))) }}
{{ $key }} = {{ include "secret-broker.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key := keys . | sortAlpha }}{{- $value := get $document $key }}
{{- if and (kindIs "slice" $value) (kindIs "map" (first $value)) }}
{{- range $value }}

[[{{ $key }}]]
{{- include "secret-broker.toml.keys" . }}
{{- end }}
{{- else if and (kindIs "map" $value) (eq $key "secrets") }}
{{- range $name := keys $value | sortAlpha }}

[secrets.{{ toJson $name }}]
{{- include "secret-broker.toml.keys" (get $value $name) }}
{{- end }}
{{- else if kindIs "map" $value }}

[{{ $key }}]
{{- include "secret-broker.toml.keys" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The section `vault` that both programs share. */}}
{{- define "secret-broker.vault" -}}
address: {{ required "vault.address is needed: where the pods of this cluster reach Vault" .Values.vault.address }}
{{- with .Values.vault.namespace }}
namespace: {{ . }}
{{- end }}
{{- end -}}

{{/* The operator's configuration: what people wrote, and what the chart knows. */}}
{{- define "secret-broker.operator.config" -}}
{{- $own := dict -}}
{{- $vault := include "secret-broker.vault" . | fromYaml -}}
{{- if .Values.vault.caConfigMap -}}{{- $_ := set $vault "ca" "/etc/secret-operator/vault/ca.crt" -}}{{- end -}}
{{- $_ := set $vault "auth" (dict "method" "kubernetes" "mount" .Values.vault.authMount "role" .Values.operator.vaultRole "token_file" "/var/run/secrets/secret-operator/vault") -}}
{{- $_ := set $own "vault" $vault -}}
{{- $_ := set $own "bootstrap" (dict "operator" (dict "role" .Values.operator.vaultRole "namespace" .Release.Namespace "service_account" (include "secret-broker.operator.account" .)) "kubernetes" (dict "mount" .Values.vault.authMount "audience" .Values.vault.audience)) -}}
{{- $name := include "secret-broker.operator" . -}}
{{- $_ := set $own "kubernetes" (dict "deployment" $name "status" (printf "%s-status" $name)) -}}
{{- $_ := set $own "leadership" (dict "lease" $name) -}}
{{- $_ := set $own "telemetry" (dict "http" "0.0.0.0:9466") -}}
{{- if include "secret-broker.operator.tls" . -}}
{{- $_ := set $own "server" (dict "listen" "0.0.0.0:7444") -}}
{{- $_ := set $own "tls" (dict "source" "files" "cert" "/etc/secret-operator/tls/tls.crt" "key" "/etc/secret-operator/tls/tls.key" "ca" "/etc/secret-operator/tls/ca.crt") -}}
{{- end -}}
{{- if not .Values.operator.config.secrets -}}
{{- fail "operator.config.secrets is empty: name the secrets to rotate, or set operator.enabled to false" -}}
{{- end -}}
{{- include "secret-broker.toml" (mergeOverwrite (deepCopy .Values.operator.config) $own) -}}
{{- end -}}
