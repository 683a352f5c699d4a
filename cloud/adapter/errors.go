package adapter

import (
	"errors"
	"regexp"
	"strings"

	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"

	"github.com/fairlead/fairlead/cloud"
)

// Classify implements cloud.Provider.
func (p *Provider) Classify(err error) *cloud.Error {
	if _, ok := errors.AsType[*cloud.Error](err); ok {
		return cloud.Classify(err)
	}
	if p.classify != nil {
		if e := p.classify(err); e != nil {
			return e
		}
	}
	e := &cloud.Error{Class: cloud.Retry, Err: err}
	if retry, ok := errors.AsType[*api.RetryError](err); ok {
		e.Class, e.After = cloud.RetryAfter, retry.RetryAfter()
	}
	if elsewhere(err) {
		// Not before the Service changes: it is what the provider makes of its annotations.
		e.Class = cloud.UserError
	}
	return e
}

// elsewhere reports whether the provider leaves the Service to another controller.
func elsewhere(err error) bool { return errors.Is(err, cloudprovider.ImplementedElsewhere) }

// stable is an error whose text can stand in a condition: on one line, without the ids that clouds give to requests, which
// differ each time.
type stable struct{ err error }

var requestID = regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)

// Error returns the text.
func (s *stable) Error() string {
	return strings.Join(strings.Fields(requestID.ReplaceAllString(s.err.Error(), "…")), " ")
}

// Unwrap returns the error as the provider returned it.
func (s *stable) Unwrap() error { return s.err }
