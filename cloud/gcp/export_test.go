package gcp

import "context"

// SetPlace has the provider believe that it runs somewhere, or nowhere, rather than ask a metadata server.
func SetPlace(project, region string, err error) (reset func()) {
	old := place
	place = func(context.Context) (string, string, error) { return project, region, err }
	return func() { place = old }
}
