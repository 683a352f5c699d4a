// Package kubeproxy runs a real kube-proxy and the real node agent one after the other on one node, against one real API
// server, and compares what their servers say: health checks, metrics, configuration. What packets do is compared
// elsewhere. It holds tests alone.
package kubeproxy
