{{- define "hstu.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels that select the pods of one part; call with (list $ "worker"). */}}
{{- define "hstu.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Name of one part; call with (list $ "worker"). StatefulSets add to it, and names have 63 letters. */}}
{{- define "hstu.name" -}}
{{ (index . 0).Release.Name | trunc 40 | trimSuffix "-" }}-{{ index . 1 }}
{{- end }}

{{- define "hstu.tokens" -}}
{{ required "tokens.existingSecret is empty: name the Secret that holds the tokens `serve` and `peers`" .Values.tokens.existingSecret }}
{{- end }}

{{- define "hstu.image" -}}
{{ (index . 0).repository }}:{{ index . 1 }}
{{- end }}

{{/* Pod fields that all parts share; call with (list $ $.Values.worker). */}}
{{- define "hstu.pod" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
terminationGracePeriodSeconds: {{ $part.terminationGracePeriodSeconds }}
{{- with $part.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "hstu.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a container's variables come from; call with (list $ $.Values.worker). */}}
{{- define "hstu.envFrom" -}}
- configMapRef: {name: {{ include "hstu.name" (list (index . 0) "settings") }}}
{{- with (index . 1).envFrom }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "hstu.mounts" -}}
- {name: data, mountPath: /data}
{{- if .Values.kafka.existingSecret }}
- {name: kafka, mountPath: /secrets/kafka, readOnly: true}
{{- end }}
{{- end }}

{{- define "hstu.volumes" -}}
{{- with .Values.kafka.existingSecret }}
- name: kafka
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* A volume with one token; call with (list $ "peers" $.Values.tokens.peersKey). */}}
{{- define "hstu.tokenVolume" -}}
- name: {{ index . 1 }}
  secret:
    secretName: {{ include "hstu.tokens" (index . 0) }}
    defaultMode: 0440
    items: [{key: {{ index . 2 }}, path: token}]
{{- end }}

{{- define "hstu.createTopics" -}}
{{- if .Values.createTopics }}
initContainers:
  - name: topics
    image: {{ include "hstu.image" (list .Values.image .Values.image.slim) }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [topics, create]
    envFrom:
      - configMapRef: {name: {{ include "hstu.name" (list . "settings") }}}
    securityContext: {{- include "hstu.containerSecurity" . | nindent 6 }}
    resources:
      requests: {cpu: 100m, memory: 256Mi}
      limits: {memory: 512Mi}
    volumeMounts: {{- include "hstu.mounts" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* A claim for /data; call with $.Values.worker.storage. */}}
{{- define "hstu.claim" -}}
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .class }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ .size }}}}
{{- end }}

{{/* Probes of workers and trainers: both wait for Kafka and load their state before they are ready. */}}
{{- define "hstu.probes" -}}
livenessProbe:
  httpGet: {path: /live, port: metrics}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /ready, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
startupProbe:
  httpGet: {path: /live, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 120
{{- end }}

{{- define "hstu.snapshots" -}}
{{ .Values.snapshots.existingClaim | default (include "hstu.name" (list . "snapshots")) }}
{{- end }}
