// Package pluginv1alpha1 is provider.proto, the form that the contract of package cloud has between a manager and a plugin,
// and the Go code made from it. It is no contract of its own: package cloud says what is meant.
package pluginv1alpha1
