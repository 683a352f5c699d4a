// Package e2e holds the packet tests of the whole path: a real API server, the manager, real kubelets, the node
// agents, and connections from Pods, nodes and an outside client, in a playground. They are built with the tag e2e
// and run inside one: `make test-e2e`.
package e2e
