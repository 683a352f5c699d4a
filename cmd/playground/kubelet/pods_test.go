package kubelet

// pods are the Pods of TestRealKubelet, one for each thing that a kubelet asks of a runtime.
const pods = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: n1
  containers:
  - name: nginx
    image: nginx:1.27
    ports: [{containerPort: 80}, {name: metrics, containerPort: 9090}, {name: dns, containerPort: 5353, protocol: UDP}]
    readinessProbe: {httpGet: {path: /ready, port: 80}, periodSeconds: 1}
    startupProbe: {tcpSocket: {port: metrics}, periodSeconds: 1, failureThreshold: 120}
    env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    volumeMounts:
    - {name: settings, mountPath: /etc/settings, readOnly: true}
    - {name: memory, mountPath: /cache}
    - {name: host, mountPath: /host}
    - {name: settings, mountPath: /one/greeting, subPath: greeting}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: host, hostPath: {path: HOSTPATH, type: DirectoryOrCreate}}
---
apiVersion: v1
kind: Pod
metadata: {name: staged}
spec:
  nodeName: n1
  initContainers:
  - {name: first, image: busybox, command: [sh, -c, "echo first > /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
  - name: sidecar
    image: busybox
    restartPolicy: Always
    command: [sh, -c, "echo sidecar >> /shared/order; exec sleep infinity"]
    startupProbe: {exec: {command: [cat, /shared/order]}, periodSeconds: 1, failureThreshold: 120}
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - {name: main, image: busybox, command: [sh, -c, "echo main >> /shared/order; exec sleep infinity"], volumeMounts: [{name: shared, mountPath: /shared}]}
  volumes: [{name: shared, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  nodeName: n1
  shareProcessNamespace: true
  containers:
  - {name: one, image: busybox, command: [sleep, "1001"]}
  - {name: two, image: busybox, command: [sleep, "1002"]}
---
apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  nodeName: n1
  securityContext: {runAsNonRoot: true}
  containers: [{name: main, image: busybox, stdin: true, tty: true}]
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  nodeName: n1
  hostNetwork: true
  containers: [{name: main, image: echo, ports: [{containerPort: 8081}], readinessProbe: {httpGet: {path: /ready, port: 8081}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: folder}
spec:
  nodeName: n1
  restartPolicy: Never
  containers: [{name: main, image: "example.com/team/tool:v1", args: [written]}]
---
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec:
  nodeName: n1
  containers: [{name: main, image: "example.com/team/absent:v2"}]
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  nodeName: n1
  containers:
  - {name: main, image: busybox, command: [sh, -c, "echo dying > /dev/termination-log; exit 3"]}
---
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "touch /tmp/alive; sleep 1; rm /tmp/alive; sleep 1000"]
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: polite-exec}
spec:
  nodeName: n1
  containers:
  - {name: main, image: nginx, ports: [{containerPort: 80}], lifecycle: {preStop: {exec: {command: [sh, -c, "sleep 3"]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: polite-sleep}
spec:
  nodeName: n1
  containers:
  - {name: main, image: nginx, ports: [{containerPort: 80}], lifecycle: {preStop: {sleep: {seconds: 3}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: deaf}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 2
  containers:
  - {name: main, image: echo, args: [--drain=1h]}
`
