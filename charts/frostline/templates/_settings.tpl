{{/* The operator's settings file. What is empty is left out, so that the operator's own defaults hold. */}}
{{- define "frostline.settings" -}}
{{- $settings := dict
      "image" (include "frostline.image" (dict "image" .Values.trainer.image "version" .Chart.AppVersion))
      "command" .Values.trainer.command
      "checkpoints" (.Values.checkpoints.url | default .Values.checkpoints.path)
      "cpuSlots" (int .Values.settings.cpuSlots)
      "timeSlicing" .Values.settings.timeSlicing
      "headroom" .Values.settings.headroom
      "prices" .Values.settings.prices
      "memory" .Values.settings.memory
      "tickSeconds" .Values.settings.tickSeconds
      "lingerSeconds" .Values.settings.lingerSeconds
      "graceSeconds" (int .Values.settings.graceSeconds)
      "cleanupSeconds" (int .Values.settings.cleanupSeconds)
      "keepJobsSeconds" (int .Values.settings.keepJobsSeconds)
      "nodeLostSeconds" (int .Values.settings.nodeLostSeconds)
      "classes" .Values.settings.classes
      "lease" (dict "name" (include "frostline.fullname" .) "namespace" .Release.Namespace "seconds" (int .Values.lease.seconds))
      "template" (include "frostline.template" . | fromYaml)
}}
{{- with .Values.namespaces }}{{ $_ := set $settings "namespaces" . }}{{ end }}
{{- with .Values.trainer.runtimeClass }}{{ $_ := set $settings "runtimeClass" . }}{{ end }}
{{- with include "frostline.checkpointClaim" . }}{{ $_ := set $settings "checkpointClaim" . }}{{ end }}
{{- with .Values.prometheus }}
{{- if .url }}
{{- $prometheus := dict "url" .url "timeoutSeconds" .timeoutSeconds "lookbackSeconds" .lookbackSeconds "intervalSeconds" .intervalSeconds "insecureSkipVerify" .insecureSkipVerify }}
{{- with .headers }}{{ $_ := set $prometheus "headers" . }}{{ end }}
{{- with .auth.username }}{{ $_ := set $prometheus "username" . }}{{ end }}
{{- with .auth.tokenKey }}{{ $_ := set $prometheus "bearerTokenFile" (printf "/etc/frostline/prometheus/%s" .) }}{{ end }}
{{- with .auth.passwordKey }}{{ $_ := set $prometheus "passwordFile" (printf "/etc/frostline/prometheus/%s" .) }}{{ end }}
{{- with .auth.caKey }}{{ $_ := set $prometheus "caFile" (printf "/etc/frostline/prometheus/%s" .) }}{{ end }}
{{- $_ := set $settings "prometheus" $prometheus }}
{{- end }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{/* What every trainer's pod has on top of what the operator gives it. A container without another name is the trainer. */}}
{{- define "frostline.template" -}}
{{- with .Values.trainer -}}
metadata:
  labels:
    {{- toYaml (merge (dict "app.kubernetes.io/part-of" "frostline") .labels) | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .priorityClass.name }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .supplementalGroups }}
  securityContext:
    supplementalGroups:
      {{- toYaml . | nindent 6 }}
  {{- end }}
  containers:
    - name: trainer
      imagePullPolicy: {{ .image.pullPolicy }}
      {{- with .resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if or .env .hub.cacheClaim .hub.offline .hub.tokenSecret }}
      env:
        {{- if .hub.cacheClaim }}
        - name: HF_HOME
          value: {{ .hub.cachePath }}
        {{- end }}
        {{- if .hub.offline }}
        - name: HF_HUB_OFFLINE
          value: "1"
        {{- end }}
        {{- with .hub.tokenSecret }}
        - name: HF_TOKEN
          valueFrom:
            secretKeyRef:
              name: {{ . }}
              key: {{ $.Values.trainer.hub.tokenKey }}
        {{- end }}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- if or .envFrom $.Values.checkpoints.credentialsSecret }}
      envFrom:
        {{- with $.Values.checkpoints.credentialsSecret }}
        - secretRef:
            name: {{ . }}
        {{- end }}
        {{- with .envFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      volumeMounts:
        - name: shared-memory
          mountPath: /dev/shm
        {{- if .hub.cacheClaim }}
        - name: hub
          mountPath: {{ .hub.cachePath }}
        {{- end }}
        {{- with .volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: shared-memory
      emptyDir:
        medium: Memory
        sizeLimit: {{ .sharedMemory }}
    {{- with .hub.cacheClaim }}
    - name: hub
      persistentVolumeClaim:
        claimName: {{ . }}
    {{- end }}
    {{- with .volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}
