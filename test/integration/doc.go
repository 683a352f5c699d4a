// Package integration runs the manager, built and started as in production, against a real kube-apiserver and etcd:
// with the manifests of config/, under the service account and the rights that they give it. It asserts what stands in
// the API server afterwards, never which calls were made.
//
// There is no kubelet, no kube-controller-manager and no packet here: Pods and Nodes are what a test writes. Packets are
// test/e2e's.
package integration
