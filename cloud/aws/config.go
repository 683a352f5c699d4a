package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/cloud"
)

// File is the configuration file of the provider (cloud.configFile of the manager), in YAML. Every field may be left out.
// Credentials are never in it: they come from where the SDK's users have them, such as the environment, a web identity, a
// profile, or the machine's role.
type File struct {
	// Region; omitted: that of the SDK's configuration, or of the machine that the manager runs on.
	Region string `json:"region,omitempty"`
	// VPCID of the nodes; omitted: that of the machine that the manager runs on.
	VPCID string `json:"vpcID,omitempty"`
	// ClusterName, by which the AWS Load Balancer Controller knows the cluster; omitted: what it made is not taken over.
	ClusterName string `json:"clusterName,omitempty"`
	// Profile of the SDK's shared configuration; omitted: the environment's, or the default one.
	Profile string `json:"profile,omitempty"`
	// Adopt balancers that are there already; omitted: yes. Where not, nothing is read of balancers that are not ours, which
	// saves calls in an account that has many.
	Adopt *bool `json:"adopt,omitempty"`
}

// startTimeout bounds what a start asks the machine's metadata for.
const startTimeout = 10 * time.Second

var vpcForm = regexp.MustCompile(`^vpc-[0-9a-f]+$`)

func init() { cloud.Register(Name, New) }

// New makes the provider of a configuration.
func New(c cloud.Config) (cloud.Provider, error) {
	var file File
	if err := yaml.UnmarshalStrict(c.File, &file); err != nil {
		return nil, fmt.Errorf("reading the configuration file of AWS: %w", err)
	}
	if file.VPCID != "" && !vpcForm.MatchString(file.VPCID) {
		return nil, fmt.Errorf("vpcID: %q is not the id of a VPC", file.VPCID)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var options []func(*config.LoadOptions) error
	if file.Region != "" {
		options = append(options, config.WithRegion(file.Region))
	}
	if file.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(file.Profile))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("loading the configuration of the AWS SDK: %w", err)
	}
	if loaded.Region == "" {
		told, err := imds.NewFromConfig(loaded).GetRegion(ctx, &imds.GetRegionInput{})
		if err != nil {
			return nil, errors.New("no region is known, and the machine's metadata does not tell: set region in the configuration file, or AWS_REGION")
		}
		loaded.Region = told.Region
	}
	if c.Endpoint != "" {
		loaded.BaseEndpoint = aws.String(c.Endpoint)
	}
	p := newProvider(loaded, once(func(ctx context.Context) (string, error) {
		if file.VPCID != "" {
			return file.VPCID, nil
		}
		return machineVPC(ctx, loaded)
	}))
	p.clusterName = file.ClusterName
	if file.Adopt != nil {
		p.caps.Adopt = *file.Adopt
	}
	return p, nil
}

// once asks until there is an answer, and keeps that: no machine leaves its VPC. For several goroutines.
func once(ask func(context.Context) (string, error)) func(context.Context) (string, error) {
	var mu sync.Mutex
	var answer string
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if answer != "" {
			return answer, nil
		}
		told, err := ask(ctx)
		if err == nil {
			answer = told
		}
		return told, err
	}
}

// machineVPC asks the metadata of the machine that the manager runs on.
func machineVPC(ctx context.Context, c aws.Config) (string, error) {
	client := imds.NewFromConfig(c)
	get := func(path string) (string, error) {
		out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
		if err != nil {
			return "", cloud.Errorf(cloud.UserError, "the VPC is not known, and the machine's metadata does not tell: set vpcID in the configuration file")
		}
		defer out.Content.Close()
		text, err := io.ReadAll(io.LimitReader(out.Content, 256))
		if err != nil {
			return "", fmt.Errorf("reading the machine's metadata: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	mac, err := get("mac")
	if err != nil {
		return "", err
	}
	return get("network/interfaces/macs/" + mac + "/vpc-id")
}
