//go:build !without_aws

package app

import _ "github.com/fairlead/fairlead/cloud/aws" // registers itself
