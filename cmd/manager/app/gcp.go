//go:build !without_gcp

package app

import _ "github.com/fairlead/fairlead/cloud/gcp" // registers itself
