package aws

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// A listener has one default certificate, which is part of it, and a list of others, of which it shows nothing by itself. The
// default one can be in the list, too: it is not counted as one of the others.

// alsoCertificates is what a listener that has others is to be looked at for.
const alsoCertificates = "certificates"

// otherCertificates lists what a listener has beside its default.
func (p *Provider) otherCertificates(ctx context.Context, arn, standard string) (string, error) {
	var all []string
	for pages := elb.NewDescribeListenerCertificatesPaginator(p.elb, &elb.DescribeListenerCertificatesInput{ListenerArn: aws.String(arn)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, c := range page.Certificates {
			if one := aws.ToString(c.CertificateArn); one != standard {
				all = append(all, one)
			}
		}
	}
	return cloud.List(all), nil
}

// addCertificates puts certificates into a listener's list, where they may be already. AWS takes one a call.
func (p *Provider) addCertificates(ctx context.Context, arn string, all []string) error {
	for _, one := range all {
		if _, err := p.elb.AddListenerCertificates(ctx, &elb.AddListenerCertificatesInput{ListenerArn: aws.String(arn), Certificates: certificateOf(one)}); err != nil {
			return err
		}
	}
	return nil
}

// removeCertificates takes certificates off a listener's list, where they may be no more.
func (p *Provider) removeCertificates(ctx context.Context, arn string, all []string) error {
	for _, one := range all {
		_, err := p.elb.RemoveListenerCertificates(ctx, &elb.RemoveListenerCertificatesInput{ListenerArn: aws.String(arn), Certificates: certificateOf(one)})
		if err != nil && codeOf(err) != "CertificateNotFound" {
			return err
		}
	}
	return nil
}

func certificateOf(arn string) []types.Certificate {
	return []types.Certificate{{CertificateArn: aws.String(arn)}}
}

// certificateChange is how the list of a listener of TLS changes.
type certificateChange struct{ add, remove, late []string }

// changeOfCertificates says what to add before the default is another one, and what to remove. What was the default is removed
// late, when it is so no more, lest it serve on from the list; what becomes the default stays there, unseen.
func changeOfCertificates(was, is cloud.Resource) certificateChange {
	have, want := cloud.SplitList(was.Attributes[certificates]), cloud.SplitList(is.Attributes[certificates])
	before, standard := was.Attributes[certificate], is.Attributes[certificate]
	c := certificateChange{
		add:    slices.DeleteFunc(slices.Clone(want), func(one string) bool { return slices.Contains(have, one) }),
		remove: slices.DeleteFunc(slices.Clone(have), func(one string) bool { return slices.Contains(want, one) || one == standard }),
	}
	if before != "" && before != standard && !slices.Contains(want, before) {
		c.late = []string{before}
	}
	return c
}

// updateCertificates changes a listener's list and, by modify, the listener. What comes is there before the default changes, and
// what goes goes after that, so that at no moment a name is without its certificate, as long as the list has room for both.
func (p *Provider) updateCertificates(ctx context.Context, was, is cloud.Resource, modify func() error) error {
	if is.Attributes[certificate] == "" {
		return modify() // the list goes with TLS
	}
	c := changeOfCertificates(was, is)
	if was.Attributes[certificate] == "" {
		if err := modify(); err != nil {
			return err
		}
		return p.addCertificates(ctx, was.ID, c.add)
	}
	err := p.addCertificates(ctx, was.ID, c.add)
	if codeOf(err) == "TooManyCertificates" && len(c.remove) > 0 {
		if err := p.removeCertificates(ctx, was.ID, c.remove); err != nil {
			return err
		}
		c.remove = nil
		err = p.addCertificates(ctx, was.ID, c.add)
	}
	if err != nil {
		return err
	}
	if err := modify(); err != nil {
		return err
	}
	return p.removeCertificates(ctx, was.ID, slices.Concat(c.remove, c.late))
}
