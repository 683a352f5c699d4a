// Package fake is a cloud in memory, and the provider for it.
//
// Cloud is the cloud: named, tagged objects (addresses, health checks, target sets, balancers, listeners) behind an API
// that refuses what a real one refuses: unknown fields, names that are taken, deletions of what is in use, more than
// the quota, too many calls. Faults are scripted per call, and a hook sees every call before and after. Server serves it
// over HTTP and Client is the same API on the other end, so that the cloud outlives a manager. Provider is the
// cloud.Provider on top of either; importing the package registers it as "fake".
//
// Hardware makes the balancers real: it gets all of them on every change and says which targets are healthy. Without
// hardware nothing is forwarded, and every target is healthy in due time but for those that SetAnswering silences. The playground's hardware is cmd/playground/balancer.
//
// It is not a simulation of AWS, GCP or Azure: each of those has an emulator beside its own provider.
package fake
