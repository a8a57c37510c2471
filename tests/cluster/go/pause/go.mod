// The process that holds a pod's namespaces.
module frostline.local/cluster/pause

go 1.26
