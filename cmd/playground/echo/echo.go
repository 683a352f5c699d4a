// Package echo is the playground's built-in server, which stands for the images of samples: on every port that its
// container declares it answers HTTP, plain TCP or UDP with who it is (Pod, namespace, node, zone) and whom it saw (the
// client's address), so that one request shows where a packet went and what happened to it on its way.
//
// It is not a web server: it serves no files and keeps nothing.
package echo

import (
	"fmt"
	"os"
)

// The environment in which the container runtime tells the server who it is.
const (
	EnvNode      = "FAIRLEAD_NODE"
	EnvZone      = "FAIRLEAD_ZONE"
	EnvPod       = "FAIRLEAD_POD"
	EnvNamespace = "FAIRLEAD_NAMESPACE"
	EnvContainer = "FAIRLEAD_CONTAINER"
	// EnvPorts are the ports to listen on, as in "80/tcp,53/udp".
	EnvPorts = "FAIRLEAD_PORTS"
)

// Answer is what the server says to every request, as one line of JSON.
type Answer struct {
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	Container string `json:"container,omitempty"`
	Node      string `json:"node"`
	Zone      string `json:"zone"`
	// Protocol is http, tcp or udp.
	Protocol string `json:"protocol"`
	// Client is the peer's address and port as the socket has them.
	Client string `json:"client"`
	// Local is the address and port that the request arrived at: the Pod's own, after any translation.
	Local string `json:"local"`
	// Port is the port of Local.
	Port int `json:"port"`
	// Host is the Host header of an HTTP request, and empty otherwise.
	Host string `json:"host,omitempty"`
}

// Main is `playground echo`: it serves until SIGTERM, then ends gracefully, and returns the exit code.
func Main(args []string) int {
	fmt.Fprintln(os.Stderr, "playground echo: the server is being written")
	return 1
}
