{{/* One entry of a webhook configuration. `asking`: pods with annotations, in all namespaces; otherwise all
others, in namespaces with the label. Nobody is asked twice. */}}
{{- define "secret-broker.webhook.entry" -}}
{{- $values := .root.Values.webhook -}}
{{- $key := "key.startsWith('secretbroker.dev/')" -}}
{{- if dig "webhook" "vault_annotations" false $values.config -}}
{{- $key = printf "%s || key == 'vault.hashicorp.com/agent-inject'" $key -}}
{{- end -}}
{{- $asks := printf "(has(object.metadata.annotations) && object.metadata.annotations.exists(key, %s)) || (oldObject != null && has(oldObject.metadata.annotations) && oldObject.metadata.annotations.exists(key, %s))" $key $key -}}
- name: {{ .name }}
  admissionReviewVersions: [v1]
  clientConfig:
    service:
      name: {{ include "secret-broker.webhook" .root }}
      namespace: {{ .root.Release.Namespace }}
      path: {{ .path }}
      port: {{ $values.service.port }}
  rules:
    - { operations: [CREATE, UPDATE], apiGroups: [""], apiVersions: [v1], resources: [pods], scope: Namespaced }
  failurePolicy: {{ $values.failurePolicy }}
  matchPolicy: Equivalent
  {{- if .mutates }}
  reinvocationPolicy: IfNeeded
  {{- end }}
  sideEffects: None
  timeoutSeconds: {{ $values.timeoutSeconds }}
  # Never the pods that have to run for the webhook to answer.
  namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: NotIn
        values:
          {{- range concat (list "kube-system" .root.Release.Namespace) $values.excludedNamespaces | uniq }}
          - {{ . }}
          {{- end }}
      {{- if not .asking }}
      - { key: secretbroker.dev/inject, operator: In, values: [enabled, "true"] }
      {{- end }}
  {{- if not .asking }}
  # The way out for single pods of such a namespace.
  objectSelector:
    matchExpressions:
      - { key: secretbroker.dev/inject, operator: NotIn, values: [disabled, "false"] }
  {{- end }}
  matchConditions:
    - name: {{ ternary "asks" "does-not-ask-itself" .asking }}
      expression: {{ if .asking }}{{ $asks | quote }}{{ else }}{{ printf "!(%s)" $asks | quote }}{{ end }}
    # Of running pods, only changes of annotations: finalizers of Jobs never wait for the webhook.
    - name: is-new-or-annotated-anew
      expression: "oldObject == null || (has(object.metadata.annotations) ? object.metadata.annotations : {}) != (has(oldObject.metadata.annotations) ? oldObject.metadata.annotations : {})"
{{- end -}}

{{/* The webhook's configuration: what people wrote, and what the chart knows. */}}
{{- define "secret-broker.webhook.config" -}}
{{- $own := dict -}}
{{- $name := include "secret-broker.webhook" . -}}
{{- $global := include "secret-broker.webhook.global" . -}}
{{- $excluded := concat (list "kube-system") .Values.webhook.excludedNamespaces | uniq -}}
{{- $_ := set $own "webhook" (dict "listen" "0.0.0.0:8443" "service" $name "namespace" .Release.Namespace "excluded_namespaces" $excluded "mutating_configuration" $global "validating_configuration" $global "certificate" (dict "secret" (printf "%s-certificates" $name))) -}}
{{- $_ := set $own "telemetry" (dict "http" "0.0.0.0:9467") -}}
{{- $_ := set $own "kubernetes" dict -}}
{{- $vault := include "secret-broker.vault" . | fromYaml -}}
{{- $_ := set $vault "auth" (dict "method" "kubernetes" "mount" .Values.vault.authMount) -}}
{{- $sidecar := dict "image" (include "secret-broker.image" .) "image_pull_policy" .Values.image.pullPolicy "audience" .Values.vault.audience "vault" $vault -}}
{{- with .Values.vault.caConfigMap -}}{{- $_ := set $sidecar "ca_config_map" . -}}{{- end -}}
{{- $_ := set $own "sidecar" $sidecar -}}
{{- include "secret-broker.toml" (mergeOverwrite (deepCopy .Values.webhook.config) $own) -}}
{{- end -}}

{{/* The name of what belongs to no namespace. */}}
{{- define "secret-broker.webhook.global" -}}
{{ include "secret-broker.webhook" . }}.{{ .Release.Namespace }}
{{- end -}}
