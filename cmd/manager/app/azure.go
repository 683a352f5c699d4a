//go:build !without_azure

package app

import _ "github.com/fairlead/fairlead/cloud/azure" // registers itself
