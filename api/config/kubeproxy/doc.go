// Package kubeproxy reads the configuration file that people have for kube-proxy (KubeProxyConfiguration of
// kubeproxy.config.k8s.io/v1alpha1, as of Kubernetes 1.37) and says what of it means what for the node agent. It
// knows every field by name, so that whatever has no effect here can be named with the reason. It is not a scheme
// to write such files with: k8s.io/kube-proxy is.
//
// The types are our own: those of k8s.io/kube-proxy bring component-base with its loggers, metrics and tracing.
//
// +kubebuilder:object:generate=true
// +groupName=kubeproxy.config.k8s.io
package kubeproxy
