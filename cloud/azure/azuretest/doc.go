// Package azuretest is an Azure network in memory, for tests of what talks to Azure by armnetwork: load balancers, public
// addresses and security groups of one subscription, over the resource manager's own wire protocol. The client of the SDK
// is used as it is, by way of Transport, without sockets, or over a socket that serves the Cloud, which is an http.Handler.
//
// Bodies are read and written by the types of armnetwork; a member that these do not have is refused. It keeps ETags, and
// If-Match and If-None-Match, runs operations that take time and may fail after their 2xx, throttles with and without
// Retry-After, shows reads late, refuses what Azure refuses (limits, names, references, what is in use) with Azure's codes,
// and answers what it does not know with an error, never with success.
//
// It is not Azure: nothing forwards packets, and of the many kinds and members of a network it checks those that a balancer
// of Kubernetes needs. The fake servers that come with armnetwork are not used: they hold one operation for each path, so
// that a PUT that follows one whose caller was stopped counts as a poll of that, and they speak a protocol of their own for
// operations that take time.
package azuretest
