package gcp

import "context"

// SetPlace has the provider believe that it runs somewhere, or nowhere, rather than ask a metadata server.
func SetPlace(project, region string, err error) (reset func()) {
	old := place
	place = func(context.Context) (string, string, error) { return project, region, err }
	return func() { place = old }
}

// GKEHash is how names of GKE hold an id.
func GKEHash(text string) string { return gkeHash(text) }
