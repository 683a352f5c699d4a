package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

const (
	// namespacePrefix begins the names of all namespaces of the benchmark.
	namespacePrefix = "bench-"
	// servicesPerNamespace: as many Services share a namespace.
	servicesPerNamespace = 50
	zones                = 3

	portHTTP    = 8080
	portMetrics = 9090
)

// pod is one Pod of the load. Its name is never used again.
type pod struct {
	service  int
	name, ip string
	node     int

	// writing is held by who writes its status: a kubelet does so in order, too.
	writing   sync.Mutex
	isReady   bool
	createdAt time.Time
}

func namespaceOf(service int) string {
	return fmt.Sprintf("%s%d", namespacePrefix, service/servicesPerNamespace)
}
func serviceName(service int) string { return fmt.Sprintf("web-%d", service) }
func nodeName(node int) string       { return fmt.Sprintf("worker-%d", node) }
func zoneName(node int) string       { return fmt.Sprintf("region-1%c", 'a'+node%zones) }

func (p *pod) namespace() string { return namespaceOf(p.service) }
func (p *pod) key() string       { return p.namespace() + "/" + p.name }
func (p *pod) zone() string      { return zoneName(p.node) }

// podIP is the nth address of 10.128.0.0/9.
func podIP(n int) string {
	return fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&0xff, n&0xff)
}

// newNode is a Node as a kubelet registers it.
func newNode(n int) *corev1.Node {
	name := nodeName(n)
	quantities := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("64Gi"),
		corev1.ResourcePods: resource.MustParse("250"), corev1.ResourceEphemeralStorage: resource.MustParse("200Gi"),
	}
	now := metav1.Now()
	condition := func(t corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: t, Status: status, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
			corev1.LabelTopologyZone: zoneName(n), corev1.LabelTopologyRegion: "region-1", corev1.LabelInstanceTypeStable: "m16",
		}},
		Spec: corev1.NodeSpec{ProviderID: "bench:///" + name},
		Status: corev1.NodeStatus{
			Capacity: quantities, Allocatable: quantities,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: hostIP(n)}, {Type: corev1.NodeHostName, Address: name}},
			Conditions: []corev1.NodeCondition{
				condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
				condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
				condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
				condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"),
			},
			NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", OperatingSystem: "linux", Architecture: "amd64", KernelVersion: "6.18.0"},
		},
	}
	for i := range 20 {
		node.Status.Images = append(node.Status.Images, corev1.ContainerImage{
			Names:     []string{fmt.Sprintf("registry.example/team/app-%d@sha256:%s", i, digest(i)), fmt.Sprintf("registry.example/team/app-%d:v1.%d", i, i)},
			SizeBytes: int64(i) << 24,
		})
	}
	return node
}

func hostIP(node int) string { return fmt.Sprintf("192.168.%d.%d", node>>8, node&0xff) }

// digest looks like one of an image.
func digest(n int) string { return strings.Repeat(fmt.Sprintf("%08x", n), 8) }

// newService is a Service with named target ports.
func newService(n int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceOf(n), Name: serviceName(n),
			Labels: map[string]string{"app.kubernetes.io/name": serviceName(n), "app.kubernetes.io/part-of": "shop"},
		},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app.kubernetes.io/name": serviceName(n)},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromString("http")},
				{Name: "metrics", Port: 9090, TargetPort: intstr.FromString("metrics")},
			},
		},
	}
}

// newPod is a Pod as a Deployment makes it, bound to its node already: the scheduler is no part of this.
func newPod(p *pod) *corev1.Pod {
	app := serviceName(p.service)
	hash := p.name[len(app)+1 : strings.LastIndexByte(p.name, '-')]
	probe := func(path string, period int32) *corev1.Probe {
		return &corev1.Probe{PeriodSeconds: period, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")},
		}}
	}
	resources := func(cpu, memory string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)},
		}
	}
	token := corev1.VolumeMount{Name: "kube-api-access", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.namespace(), Name: p.name,
			Labels: map[string]string{
				"app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/version": "1.4.2",
				"pod-template-hash": hash, "team": fmt.Sprintf("team-%d", p.service%7),
			},
			Annotations: map[string]string{
				"prometheus.io/scrape": "true", "prometheus.io/port": "9090",
				"checksum/config": digest(p.service),
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-" + hash, UID: "7f3c6b1e-6d0a-4d4f-9a55-0d5b8d3c2f10",
				Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
			}},
		},
		Spec: corev1.PodSpec{
			NodeName: nodeName(p.node), ServiceAccountName: app,
			Containers: []corev1.Container{{
				Name: "app", Image: "registry.example/shop/" + app + ":1.4.2", Env: environment(app), Resources: resources("250m", "256Mi"),
				Ports:         []corev1.ContainerPort{{Name: "http", ContainerPort: portHTTP}},
				LivenessProbe: probe("/livez", 10), ReadinessProbe: probe("/readyz", 5), StartupProbe: probe("/livez", 1),
				VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/app"}, {Name: "cache", MountPath: "/var/cache/app"}, token},
				SecurityContext: &corev1.SecurityContext{
					RunAsNonRoot: ptr.To(true), ReadOnlyRootFilesystem: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false),
				},
			}, {
				Name: "exporter", Image: "registry.example/ops/exporter:0.9", Resources: resources("10m", "32Mi"),
				Args:         []string{"--from=http://127.0.0.1:8080/stats", "--listen=:9090"},
				Ports:        []corev1.ContainerPort{{Name: "metrics", ContainerPort: portMetrics}},
				VolumeMounts: []corev1.VolumeMount{token},
			}},
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway,
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": app}},
			}},
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: app}}}},
				{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: token.Name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](3607)}},
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
				}}}},
			},
		},
	}
}

func environment(app string) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "DB_PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: app}, Key: "db-password",
		}}},
	}
	for i := range 10 {
		env = append(env, corev1.EnvVar{Name: fmt.Sprintf("UPSTREAM_%d_URL", i), Value: fmt.Sprintf("http://web-%d.bench.svc.cluster.local:80/api", i)})
	}
	return env
}

// status is what the kubelet of the Pod writes.
func (p *pod) status(now time.Time) corev1.PodStatus {
	created, at := metav1.NewTime(p.createdAt), metav1.NewTime(now)
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &created, QOSClass: corev1.PodQOSBurstable,
		HostIP: hostIP(p.node), HostIPs: []corev1.HostIP{{IP: hostIP(p.node)}},
		PodIP: p.ip, PodIPs: []corev1.PodIP{{IP: p.ip}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: created},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: created},
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: created},
		},
	}
	condition := corev1.PodCondition{Status: corev1.ConditionTrue, LastTransitionTime: at}
	if !p.isReady {
		condition = corev1.PodCondition{
			Status: corev1.ConditionFalse, LastTransitionTime: at, Reason: "ContainersNotReady", Message: "containers with unready status: [app]",
		}
	}
	for _, t := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		condition.Type = t
		status.Conditions = append(status.Conditions, condition)
	}
	for i, name := range []string{"app", "exporter"} {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: name, Ready: p.isReady || name != "app", Started: ptr.To(true),
			Image: "registry.example/" + name, ImageID: "registry.example/" + name + "@sha256:" + digest(i),
			ContainerID: "containerd://" + digest(i+p.service), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: created}},
		})
	}
	return status
}

// lastStatus is what the kubelet writes when the Pod's containers have ended on request.
func (p *pod) lastStatus(now time.Time) corev1.PodStatus {
	p.isReady = false
	status := p.status(now)
	status.Phase = corev1.PodSucceeded
	for i := range status.Conditions {
		if status.Conditions[i].Status == corev1.ConditionFalse {
			status.Conditions[i].Reason, status.Conditions[i].Message = "PodCompleted", ""
		}
	}
	for i := range status.ContainerStatuses {
		c := &status.ContainerStatuses[i]
		c.Ready, c.Started = false, ptr.To(false)
		c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: "Completed", ContainerID: c.ContainerID, StartedAt: metav1.NewTime(p.createdAt), FinishedAt: metav1.NewTime(now),
		}}
	}
	return status
}
