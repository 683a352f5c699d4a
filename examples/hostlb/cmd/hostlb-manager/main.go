// Command hostlb-manager is Fairlead's manager with the provider hostlb linked in.
package main

import (
	_ "example.com/hostlb" // registers itself

	"github.com/fairlead/fairlead/cmd/manager/app"
)

func main() { app.Main() }
