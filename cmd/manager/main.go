// Command manager runs Fairlead's controllers: it turns Services, Pods and Nodes into EndpointSlices, Endpoints,
// node ports and load balancers.
package main

import "github.com/fairlead/fairlead/cmd/manager/app"

func main() { app.Main() }
