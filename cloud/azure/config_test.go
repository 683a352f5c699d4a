package azure

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/azure/azuretest"
)

const minimal = `
subscriptionId: ` + azuretest.Subscription + `
resourceGroup: cluster
location: westeurope
vnetName: nodes
subnetName: nodes
securityGroupName: nodes
`

func TestReadConfig(t *testing.T) {
	cases := map[string]struct {
		reason string
		file   string
		want   Config
		wrong  []string
	}{
		"Minimal": {"groups that are left out are the cluster's", minimal, Config{SubscriptionID: azuretest.Subscription, ResourceGroup: "cluster",
			Location: "westeurope", VnetName: "nodes", VnetResourceGroup: "cluster", SubnetName: "nodes", SecurityGroupName: "nodes", SecurityGroupResourceGroup: "cluster"}, nil},
		"None":    {"it says how to give one", "", Config{}, []string{"cloud.configFile"}},
		"Missing": {"all of it at once", "cloud: Mars\n", Config{}, []string{"subscriptionId, resourceGroup, location, vnetName, subnetName, securityGroupName", `"Mars"`}},
		"Unknown": {"a typing mistake is none that goes unseen", minimal + "vnetsName: a\n", Config{}, []string{"vnetsName"}},
		"TwoWays": {"one identity", minimal + "useManagedIdentityExtension: true\nuseFederatedWorkloadIdentityExtension: true\n", Config{}, []string{"choose one"}},
		"Cloud": {"the case of its name does not count", "cloud: AZURECHINACLOUD\n" + minimal, Config{Cloud: "AZURECHINACLOUD", SubscriptionID: azuretest.Subscription, ResourceGroup: "cluster",
			Location: "westeurope", VnetName: "nodes", VnetResourceGroup: "cluster", SubnetName: "nodes", SecurityGroupName: "nodes", SecurityGroupResourceGroup: "cluster"}, nil},
		"Unused": {"an identity that nothing uses is a mistake", minimal + "userAssignedIdentityID: a\n", Config{}, []string{"useManagedIdentityExtension"}},
		"UnusedBeside": {"beside another identity it is as in others' files", minimal + "useFederatedWorkloadIdentityExtension: true\nuserAssignedIdentityID: a\n",
			Config{SubscriptionID: azuretest.Subscription, ResourceGroup: "cluster", Location: "westeurope", VnetName: "nodes", VnetResourceGroup: "cluster", SubnetName: "nodes",
				SecurityGroupName: "nodes", SecurityGroupResourceGroup: "cluster", UseFederatedWorkloadIdentityExtension: true, UserAssignedIdentityID: "a"}, nil},
		"Zones":    {"a zone is a number", minimal + "publicIPZones: [westeurope-1]\ninternalZones: [a]\n", Config{}, []string{"publicIPZones", "internalZones"}},
		"NoTenant": {"a secret alone is nobody's", minimal + "aadClientSecret: a\n", Config{}, []string{"aadClientId and tenantId"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var file []byte
			if tc.file != "" {
				file = []byte(tc.file)
			}
			got, err := readConfig(file)
			for _, text := range tc.wrong {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%s: error %v, want one with %q", tc.reason, err, text)
				}
			}
			if len(tc.wrong) > 0 {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestCredential: the configuration says which of the SDK's identities it is. None of them is asked for a token.
func TestCredential(t *testing.T) {
	token := t.TempDir() + "/token"
	if err := os.WriteFile(token, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	is := func(want any) func(got any) bool {
		return func(got any) bool { return cmp.Equal(typeName(want), typeName(got)) }
	}
	for name, tc := range map[string]struct {
		config Config
		is     func(any) bool
	}{
		"Secret":   {Config{AADClientID: "a", AADClientSecret: "b", TenantID: "c"}, is(&azidentity.ClientSecretCredential{})},
		"Workload": {Config{UseFederatedWorkloadIdentityExtension: true, AADClientID: "a", TenantID: "c", AADFederatedTokenFile: token}, is(&azidentity.WorkloadIdentityCredential{})},
		"Managed":  {Config{UseManagedIdentityExtension: true, UserAssignedIdentityID: "a"}, is(&azidentity.ManagedIdentityCredential{})},
		"Default":  {Config{}, is(&azidentity.DefaultAzureCredential{})},
	} {
		credential, err := tc.config.credential(policy.ClientOptions{})
		if err != nil || !tc.is(credential) {
			t.Errorf("%s: the identity is a %T (%v)", name, credential, err)
		}
	}
}

// TestManagedIdentity: one of a machine's identities is named by either id, as cloud-provider-azure has it.
func TestManagedIdentity(t *testing.T) {
	const resource = "/Subscriptions/a/resourcegroups/b/providers/Microsoft.ManagedIdentity/userAssignedIdentities/c"
	for id, want := range map[string]azidentity.ManagedIDKind{"": nil, "a-b": azidentity.ClientID("a-b"), resource: azidentity.ResourceID(resource)} {
		if got := (Config{UserAssignedIdentityID: id}).managedIdentity(); got != want {
			t.Errorf("%q is taken for %T %[2]v, want %T", id, got, want)
		}
	}
}

// TestOverASocket: the provider that is registered talks to whatever the configured endpoint is.
func TestOverASocket(t *testing.T) {
	network := azuretest.New(azuretest.Options{})
	server := httptest.NewServer(network)
	defer server.Close()
	providers := cloud.NewProviders(func(string) (cloud.Config, error) {
		return cloud.Config{ClusterID: "cluster-a", File: []byte(minimal), Endpoint: server.URL}, nil
	}, nil)
	p, err := providers.Get(Name)
	if err != nil {
		t.Fatal(err)
	}
	owner := cloud.Owner{ClusterID: "cluster-a", ServiceUID: "7f3e0c1a-0000-4000-8000-000000000001", Namespace: "shop", Name: "cart"}
	desired, err := p.Desired(cloud.Spec{Owner: owner, Families: []cloud.Family{cloud.IPv4}, Ports: []cloud.Port{{Protocol: "TCP", Port: 80, NodePort: 30080,
		HealthCheck: cloud.HealthCheck{Protocol: "TCP", Port: 30080}}}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := p.Create(t.Context(), owner, desired[0])
	if err != nil || made.Kind != KindPublicIP || len(made.Ingress) != 1 {
		t.Fatalf("made %+v (%v)", made, err)
	}
	observed, err := p.Observe(t.Context(), owner)
	if err != nil || len(observed) != 1 || observed[0].ID != made.ID {
		t.Errorf("observed %+v (%v), want %s", observed, err, made.ID)
	}
	if response, err := http.Get(server.URL + "/moon"); err != nil || response.StatusCode < http.StatusBadRequest { //nolint:noctx // ends with the server
		t.Errorf("what the emulator does not know is answered with %v (%v)", response, err)
	} else {
		_ = response.Body.Close()
	}
}
