// Command distributor is the program of the package page of cloud/adapter.
package main

import (
	_ "k8s.io/cloud-provider-aws/pkg/providers/v1" // registers itself with k8s.io/cloud-provider as "aws"

	"github.com/fairlead/fairlead/cloud/adapter"
	"github.com/fairlead/fairlead/cmd/manager/app"
)

func main() {
	adapter.Register("aws-classic", adapter.Registered("aws"), adapter.Options{})
	app.Main()
}
