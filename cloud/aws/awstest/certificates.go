package awstest

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// certificatesPerPage are answered to who does not say how many.
const certificatesPerPage = 10

func checkCertificate(c types.Certificate) error {
	if arn := aws.ToString(c.CertificateArn); !strings.HasPrefix(arn, "arn:aws:acm:") && !strings.HasPrefix(arn, "arn:aws:iam:") {
		return refuse("CertificateNotFound", "Certificate ARN '%s' is not valid", arn)
	}
	return nil
}

// listedCertificate checks a request about a listener's list, which is about one certificate.
func (s *Server) listedCertificate(listener string, given []types.Certificate) (arn string, err error) {
	l := s.state.listeners[listener]
	switch {
	case l == nil:
		return "", refuse("ListenerNotFound", "Listener '%s' not found", listener)
	case len(given) != 1 || given[0].IsDefault != nil:
		return "", refuse("ValidationError", "One certificate can be specified, without IsDefault")
	case l.Protocol != types.ProtocolEnumTls:
		return "", refuse("OperationNotPermitted", "Listener '%s' has no certificates", listener)
	}
	return aws.ToString(given[0].CertificateArn), nil
}

func (s *Server) addListenerCertificates(in *elb.AddListenerCertificatesInput) (*elb.AddListenerCertificatesOutput, error) {
	arn, err := s.listedCertificate(*in.ListenerArn, in.Certificates)
	if err != nil {
		return nil, err
	}
	if err := checkCertificate(in.Certificates[0]); err != nil {
		return nil, err
	}
	if have := s.state.certificates[*in.ListenerArn]; !slices.Contains(have, arn) {
		if len(have) >= s.options.Quotas.Certificates {
			return nil, refuse("TooManyCertificates", "The maximum number of certificates has been reached on listener '%s'", *in.ListenerArn)
		}
		s.state.certificates[*in.ListenerArn] = append(slices.Clone(have), arn)
	}
	return &elb.AddListenerCertificatesOutput{Certificates: []types.Certificate{{CertificateArn: &arn, IsDefault: aws.Bool(false)}}}, nil
}

func (s *Server) removeListenerCertificates(in *elb.RemoveListenerCertificatesInput) (*elb.RemoveListenerCertificatesOutput, error) {
	arn, err := s.listedCertificate(*in.ListenerArn, in.Certificates)
	if err != nil {
		return nil, err
	}
	if arn == aws.ToString(s.state.listeners[*in.ListenerArn].Certificates[0].CertificateArn) {
		return nil, refuse("OperationNotPermitted", "The default certificate of a listener cannot be removed")
	}
	s.state.certificates[*in.ListenerArn] = slices.DeleteFunc(slices.Clone(s.state.certificates[*in.ListenerArn]), func(one string) bool { return one == arn })
	return &elb.RemoveListenerCertificatesOutput{}, nil
}

// describeListenerCertificates shows the default certificate and the list, in which it can be, too.
func (s *Server) describeListenerCertificates(in *elb.DescribeListenerCertificatesInput) (*elb.DescribeListenerCertificatesOutput, error) {
	read := s.read()
	l := read.listeners[*in.ListenerArn]
	if l == nil {
		return nil, refuse("ListenerNotFound", "Listener '%s' not found", *in.ListenerArn)
	}
	all := []types.Certificate{}
	for _, c := range l.Certificates {
		all = append(all, types.Certificate{CertificateArn: c.CertificateArn, IsDefault: aws.Bool(true)})
	}
	for _, arn := range read.certificates[*in.ListenerArn] {
		all = append(all, types.Certificate{CertificateArn: aws.String(arn), IsDefault: aws.Bool(false)})
	}
	size := in.PageSize
	if size == nil {
		size = aws.Int32(certificatesPerPage)
	}
	some, next, err := page(all, in.Marker, size, 400)
	return &elb.DescribeListenerCertificatesOutput{Certificates: some, NextMarker: next}, err
}
