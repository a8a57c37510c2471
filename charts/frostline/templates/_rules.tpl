{{/* What the operator does where studies are. A test compares this with what it is seen to do. */}}
{{- define "frostline.rules" -}}
- apiGroups: [hpo.frostline.dev]
  resources: [hpostudies]
  verbs: [list, watch, patch]
- apiGroups: [hpo.frostline.dev]
  resources: [hpotrials]
  verbs: [list, create, patch, delete]
- apiGroups: [hpo.frostline.dev]
  resources: [hpostudies/status, hpotrials/status]
  verbs: [patch]
# Where the admission plugin OwnerReferencesPermissionEnforcement is on (OpenShift), it takes this right to make what keeps
# its owner from going first, and `delete` of trials and ConfigMaps to change whose they are. The operator deletes neither.
- apiGroups: [hpo.frostline.dev]
  resources: [hpostudies/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# The state of each study: its journal, and the profile of its model.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* What it reads of the whole cluster: GPUs, and who has them */}}
{{- define "frostline.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes, pods]
  verbs: [list, watch]
- apiGroups: [resource.k8s.io]
  resources: [resourceslices]
  verbs: [list]
{{- end }}
