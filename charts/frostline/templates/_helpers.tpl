{{/* Names and labels */}}
{{- define "frostline.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "frostline.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "frostline.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "frostline.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Objects of the whole cluster: releases of one name in two namespaces must not meet */}}
{{- define "frostline.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "frostline.fullname" .) }}
{{- end }}

{{- define "frostline.selector" -}}
app.kubernetes.io/name: {{ include "frostline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "frostline.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "frostline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: frostline
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "frostline.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "frostline.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* repository:tag, or repository@digest. Give (dict "image" ... "version" ...) */}}
{{- define "frostline.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .version .image.tag) }}
{{- end }}
{{- end }}

{{- define "frostline.operatorImage" -}}
{{- include "frostline.image" (dict "image" .Values.image "version" .Chart.AppVersion) }}
{{- end }}

{{/* Name of the claim for checkpoints; empty without one */}}
{{- define "frostline.checkpointClaim" -}}
{{- if .Values.checkpoints.create.enabled }}
{{- printf "%s-checkpoints" (include "frostline.fullname" .) }}
{{- else }}
{{- .Values.checkpoints.existingClaim }}
{{- end }}
{{- end }}

{{/* Namespaces in which the chart makes things for trainers: those that are looked after, or else the release's */}}
{{- define "frostline.places" -}}
{{- toYaml (.Values.namespaces | default (list .Release.Namespace)) }}
{{- end }}

{{/* Security contexts of the restricted standard */}}
{{- define "frostline.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "frostline.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What cannot be meant, said before anything is installed */}}
{{- define "frostline.check" -}}
{{- $places := 0 }}
{{- range list .Values.checkpoints.existingClaim .Values.checkpoints.url }}
{{- if . }}{{ $places = add1 $places }}{{ end }}
{{- end }}
{{- if .Values.checkpoints.create.enabled }}{{ $places = add1 $places }}{{ end }}
{{- if gt (int $places) 1 }}
{{- fail "checkpoints: give one of existingClaim, url and create.enabled" }}
{{- end }}
{{- with .Values.prometheus.auth }}
{{- if and (or .tokenKey .passwordKey .caKey) (not .existingSecret) }}
{{- fail "prometheus.auth: tokenKey, passwordKey and caKey are keys of a Secret; name it in existingSecret" }}
{{- end }}
{{- if and .tokenKey .passwordKey }}
{{- fail "prometheus.auth: give tokenKey or passwordKey, not both" }}
{{- end }}
{{- end }}
{{- if and .Values.trainer.priorityClass.create (not .Values.trainer.priorityClass.name) }}
{{- fail "trainer.priorityClass.create needs trainer.priorityClass.name" }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) .Values.rbac.create }}
{{- fail "serviceAccount.create is false: name the account in serviceAccount.name, or the namespace's default one would get the operator's rights" }}
{{- end }}
{{- end }}
