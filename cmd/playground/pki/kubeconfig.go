package pki

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ServerName is a name in the API server's certificate, for whoever reaches it at an address that is not.
const ServerName = "kubernetes.default.svc"

// Credentials are how a kubeconfig's user proves who it is: one of the two.
type Credentials struct {
	Pair  *Pair
	Token string
}

// WriteKubeconfig writes a kubeconfig with everything inside it, for the API server at url.
func (a *Authority) WriteKubeconfig(path, url, user string, c Credentials) error {
	config := clientcmdapi.NewConfig()
	cluster := clientcmdapi.NewCluster()
	cluster.Server, cluster.CertificateAuthorityData, cluster.TLSServerName = url, a.CA(), ServerName
	info := clientcmdapi.NewAuthInfo()
	info.Token = c.Token
	if c.Pair != nil {
		info.ClientCertificateData, info.ClientKeyData = c.Pair.Cert, c.Pair.Key
	}
	context := clientcmdapi.NewContext()
	context.Cluster, context.AuthInfo = "playground", user
	config.Clusters["playground"] = cluster
	config.AuthInfos[user] = info
	config.Contexts["playground"] = context
	config.CurrentContext = "playground"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	return nil
}
