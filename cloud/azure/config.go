package azure

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/cloud"
)

// Config is the provider's configuration file, YAML or JSON. Its names are those that cloud-provider-azure has for the same.
type Config struct {
	// Cloud is AzurePublicCloud, which is the default, AzureChinaCloud or AzureUSGovernmentCloud, in any case.
	Cloud          string `json:"cloud,omitempty"`
	TenantID       string `json:"tenantId,omitempty"`
	SubscriptionID string `json:"subscriptionId"`
	// ResourceGroup that load balancers and public addresses are made in.
	ResourceGroup string `json:"resourceGroup"`
	Location      string `json:"location"`
	// PublicIPZones are the availability zones of public addresses that are made, such as 1, 2 and 3. None: Azure chooses.
	PublicIPZones []string `json:"publicIPZones,omitempty"`
	// InternalZones are those of internal frontends that are made. None: Azure chooses. cloud-provider-azure, which may list the region's,
	// gives them all of those.
	InternalZones []string `json:"internalZones,omitempty"`
	// VnetName is the network of the nodes, in VnetResourceGroup, or else in ResourceGroup.
	VnetName          string `json:"vnetName"`
	VnetResourceGroup string `json:"vnetResourceGroup,omitempty"`
	// SubnetName that internal addresses come from where a Service does not say.
	SubnetName string `json:"subnetName"`
	// SecurityGroupName is the security group of the nodes' subnet, in SecurityGroupResourceGroup, or else in ResourceGroup.
	SecurityGroupName          string `json:"securityGroupName"`
	SecurityGroupResourceGroup string `json:"securityGroupResourceGroup,omitempty"`

	// Which identity: a service principal, the workload's federated one, or a managed one. None of them: the SDK's default
	// chain (environment, workload identity, managed identity, az).
	AADClientID                           string `json:"aadClientId,omitempty"`
	AADClientSecret                       string `json:"aadClientSecret,omitempty"`
	UseFederatedWorkloadIdentityExtension bool   `json:"useFederatedWorkloadIdentityExtension,omitempty"`
	AADFederatedTokenFile                 string `json:"aadFederatedTokenFile,omitempty"`
	UseManagedIdentityExtension           bool   `json:"useManagedIdentityExtension,omitempty"`
	// UserAssignedIdentityID is the client id of a managed identity, or its resource id.
	UserAssignedIdentityID string `json:"userAssignedIdentityID,omitempty"`
}

// environments by folded names, also those that az has for them.
var environments = map[string]azcloud.Configuration{
	"": azcloud.AzurePublic, "azurepubliccloud": azcloud.AzurePublic, "azurecloud": azcloud.AzurePublic, "azurechinacloud": azcloud.AzureChina,
	"azureusgovernmentcloud": azcloud.AzureGovernment, "azureusgovernment": azcloud.AzureGovernment,
}

// readConfig reads a configuration file. Its error names everything that is wrong.
func readConfig(file []byte) (Config, error) {
	var c Config
	if file == nil {
		return c, errors.New("Azure needs a configuration file: set cloud.configFile")
	}
	if err := yaml.UnmarshalStrict(file, &c); err != nil {
		return c, fmt.Errorf("reading the configuration of Azure: %w", err)
	}
	var missing []string
	for _, member := range []struct{ name, value string }{
		{"subscriptionId", c.SubscriptionID}, {"resourceGroup", c.ResourceGroup}, {"location", c.Location},
		{"vnetName", c.VnetName}, {"subnetName", c.SubnetName}, {"securityGroupName", c.SecurityGroupName},
	} {
		if member.value == "" {
			missing = append(missing, member.name)
		}
	}
	var mistakes []error
	if len(missing) > 0 {
		mistakes = append(mistakes, fmt.Errorf("the configuration of Azure lacks %s", strings.Join(missing, ", ")))
	}
	if _, ok := environments[folded(c.Cloud)]; !ok {
		mistakes = append(mistakes, fmt.Errorf("cloud: %q is not one of AzurePublicCloud, AzureChinaCloud, AzureUSGovernmentCloud", c.Cloud))
	}
	for _, member := range []struct {
		name  string
		zones []string
	}{{"publicIPZones", c.PublicIPZones}, {"internalZones", c.InternalZones}} {
		for _, zone := range member.zones {
			if zone == "" || strings.Trim(zone, "0123456789") != "" {
				mistakes = append(mistakes, fmt.Errorf("%s: %q is no zone: write numbers, such as \"1\"", member.name, zone))
			}
		}
	}
	for _, name := range []struct {
		member, value string
		pattern       *regexp.Regexp
	}{
		{"resourceGroup", c.ResourceGroup, groupPattern}, {"vnetResourceGroup", c.VnetResourceGroup, groupPattern},
		{"securityGroupResourceGroup", c.SecurityGroupResourceGroup, groupPattern}, {"vnetName", c.VnetName, namePattern},
		{"subnetName", c.SubnetName, namePattern}, {"securityGroupName", c.SecurityGroupName, namePattern},
	} {
		if name.value != "" && !name.pattern.MatchString(name.value) {
			mistakes = append(mistakes, fmt.Errorf("%s: Azure has no name like %q", name.member, name.value))
		}
	}
	ways := 0
	for _, used := range []bool{c.AADClientSecret != "", c.UseFederatedWorkloadIdentityExtension, c.UseManagedIdentityExtension} {
		if used {
			ways++
		}
	}
	if ways > 1 {
		mistakes = append(mistakes, errors.New("aadClientSecret, useFederatedWorkloadIdentityExtension and useManagedIdentityExtension are different identities: choose one"))
	}
	if c.AADClientSecret != "" && (c.AADClientID == "" || c.TenantID == "") {
		mistakes = append(mistakes, errors.New("aadClientSecret needs aadClientId and tenantId"))
	}
	if c.UserAssignedIdentityID != "" && ways == 0 { // beside another identity, files that others read have it, too
		mistakes = append(mistakes, errors.New("userAssignedIdentityID needs useManagedIdentityExtension: true"))
	}
	if c.VnetResourceGroup == "" {
		c.VnetResourceGroup = c.ResourceGroup
	}
	if c.SecurityGroupResourceGroup == "" {
		c.SecurityGroupResourceGroup = c.ResourceGroup
	}
	return c, errors.Join(mistakes...)
}

// credential of the identity that the configuration names.
func (c Config) credential(options policy.ClientOptions) (azcore.TokenCredential, error) {
	switch {
	case c.AADClientSecret != "":
		return azidentity.NewClientSecretCredential(c.TenantID, c.AADClientID, c.AADClientSecret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	case c.UseFederatedWorkloadIdentityExtension:
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: options,
			ClientID: c.AADClientID, TenantID: c.TenantID, TokenFilePath: c.AADFederatedTokenFile})
	case c.UseManagedIdentityExtension:
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: options, ID: c.managedIdentity()})
	}
	return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: options, TenantID: c.TenantID})
}

// managedIdentity says which of a machine's managed identities it is; nil: its own, or the only one.
func (c Config) managedIdentity() azidentity.ManagedIDKind {
	switch id := c.UserAssignedIdentityID; {
	case id == "":
		return nil
	case strings.HasPrefix(folded(id), "/subscriptions/"):
		return azidentity.ResourceID(id)
	default:
		return azidentity.ClientID(id)
	}
}

// nobody is who talks to an emulator.
type nobody struct{}

// GetToken implements azcore.TokenCredential.
func (nobody) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "nobody", ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// newFromConfig is the cloud.Factory.
func newFromConfig(config cloud.Config) (cloud.Provider, error) {
	c, err := readConfig(config.File)
	if err != nil {
		return nil, cloud.Errorf(cloud.UserError, "%w", err)
	}
	environment := environments[folded(c.Cloud)]
	if config.Endpoint == "" {
		options := policy.ClientOptions{Cloud: environment}
		credential, err := c.credential(options)
		if err != nil {
			return nil, fmt.Errorf("finding the identity for Azure: %w", err)
		}
		network, err := newClient(c, credential, options)
		if err != nil {
			return nil, err
		}
		return New(c, network), nil
	}
	return NewForEmulator(c, config.Endpoint, nil)
}

// NewForEmulator makes a provider for something else that speaks as Azure does, at an endpoint or behind a transport. It
// sends no credentials of anybody.
func NewForEmulator(c Config, endpoint string, transport policy.Transporter) (*Provider, error) {
	options := policy.ClientOptions{Transport: transport, InsecureAllowCredentialWithHTTP: true, Cloud: azcloud.Configuration{
		ActiveDirectoryAuthorityHost: endpoint,
		Services: map[azcloud.ServiceName]azcloud.ServiceConfiguration{
			azcloud.ResourceManager: {Endpoint: strings.TrimSuffix(endpoint, "/"), Audience: endpoint}},
	}}
	network, err := newClient(c, nobody{}, options)
	if err != nil {
		return nil, err
	}
	return New(c, network), nil
}
