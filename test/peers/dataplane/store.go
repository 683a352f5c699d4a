package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/wait"
)

// perTransaction is how many keys etcd takes at once, by default.
const perTransaction = 128

// put is one of an etcd transaction, as its JSON gateway reads it: both in base64.
type put struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// copyFirst makes Services 1 to size.Services-1 as copies of Service 0, which the API server has made, with their IPAddresses. They
// are written where it keeps them: it counts all addresses for each that it gives out, so that 30,000 would take it
// twelve minutes.
func (f *fleet) copyFirst(ctx context.Context) error {
	namespace, name := place(0, f.size)
	first, err := f.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the first Service: %w", err)
	}
	address, err := f.client.NetworkingV1().IPAddresses().Get(ctx, first.Spec.ClusterIP, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the first Service's address: %w", err)
	}
	first.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
	address.TypeMeta = metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "IPAddress"}
	// Addresses first: the API server looks for Services that have none.
	var addresses, services []put
	for n := 1; n < f.size.Services; n++ {
		svc, ip, want := first.DeepCopy(), address.DeepCopy(), f.newService(n)
		renew(svc, want.Name)
		svc.Labels, svc.Spec.ClusterIP, svc.Spec.ClusterIPs = want.Labels, want.Spec.ClusterIP, []string{want.Spec.ClusterIP}
		renew(ip, want.Spec.ClusterIP)
		ip.Spec.ParentRef = &networkingv1.ParentReference{Resource: "services", Namespace: namespace, Name: want.Name}
		if services, err = appendPut(services, "/registry/services/specs/"+namespace+"/"+svc.Name, svc); err != nil {
			return err
		}
		if addresses, err = appendPut(addresses, "/registry/ipaddresses/"+ip.Name, ip); err != nil {
			return err
		}
	}
	for _, puts := range [][]put{addresses, services} {
		for chunk := range slices.Chunk(puts, perTransaction) {
			if err := f.transact(ctx, chunk); err != nil {
				return fmt.Errorf("writing to etcd: %w", err)
			}
		}
	}
	return f.checkCopies(ctx)
}

// renew makes a copy an object of its own.
func renew(o metav1.Object, name string) {
	o.SetName(name)
	o.SetUID(uuid.NewUUID())
	o.SetResourceVersion("")
}

func appendPut(puts []put, key string, object any) ([]put, error) {
	value, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", key, err)
	}
	return append(puts, put{Key: []byte(key), Value: value}), nil
}

func (f *fleet) transact(ctx context.Context, puts []put) error {
	type operation struct {
		Put put `json:"requestPut"`
	}
	var body struct {
		Success []operation `json:"success"`
	}
	for _, p := range puts {
		body.Success = append(body.Success, operation{p})
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.etcd+"/v3/kv/txn", bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

// checkCopies waits until the Services are read as the peers will read them: what etcd took at once has one revision, and the API
// server's cache counts as up to date as soon as it has the first object of that revision.
func (f *fleet) checkCopies(ctx context.Context) error {
	var differs error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		var err error
		differs, err = f.compareCopies(ctx)
		return differs == nil, err
	})
	if differs != nil {
		return differs
	}
	return err
}

// compareCopies returns what the API server does not serve as it was stored, and whether it could be read.
func (f *fleet) compareCopies(ctx context.Context) (differs, err error) {
	list, err := f.client.CoreV1().Services(namespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the Services: %w", err)
	}
	served := map[string]*corev1.Service{}
	for i := range list.Items {
		served[list.Items[i].Name] = &list.Items[i]
	}
	for n := range f.size.Services {
		want := f.newService(n)
		if svc := served[want.Name]; svc == nil || svc.Spec.ClusterIP != want.Spec.ClusterIP || svc.UID == "" || len(svc.Spec.Ports) != len(want.Spec.Ports) {
			return fmt.Errorf("the API server does not serve Service %s as it was stored", want.Name), nil
		}
	}
	return nil, nil
}
