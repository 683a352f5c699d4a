package cri

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Without cgroups, what a container uses is what its processes use: those below its init.

// clockTick is the unit of process times in /proc, the same on all of Linux's architectures that matter here.
const clockTick = 10 * time.Millisecond

// processUsage is one line of the process table.
type processUsage struct {
	parent int
	cpu    time.Duration
	memory uint64 // resident, in bytes
}

// readProcesses reads the process table by process id. A process that ends meanwhile is left out.
func readProcesses() map[int]processUsage {
	table := map[int]processUsage{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return table
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		if usage, ok := parseStat(string(data)); ok {
			table[pid] = usage
		}
	}
	return table
}

// parseStat reads /proc/PID/stat (proc_pid_stat(5)): the name in parentheses may hold anything, so fields count from its end.
func parseStat(line string) (processUsage, bool) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 22 {
		return processUsage{}, false
	}
	number := func(i int) uint64 {
		n, _ := strconv.ParseUint(fields[i-3], 10, 64) // numbered from 1 in the manual, and two fields are cut off
		return n
	}
	return processUsage{
		parent: int(number(4)),
		cpu:    time.Duration(number(14)+number(15)) * clockTick,
		memory: number(24) * uint64(os.Getpagesize()),
	}, true
}

// usageBelow sums up a process and all its descendants.
func usageBelow(table map[int]processUsage, root int) (total processUsage, count int) {
	children := map[int][]int{}
	for pid, p := range table {
		children[p.parent] = append(children[p.parent], pid)
	}
	pending := []int{root}
	for len(pending) > 0 {
		pid := pending[len(pending)-1]
		pending = append(pending[:len(pending)-1], children[pid]...)
		if p, known := table[pid]; known {
			total.cpu += p.cpu
			total.memory += p.memory
			count++
		}
	}
	return total, count
}

func (r *Runtime) statsOf(c *container, table map[int]processUsage) (*runtimeapi.ContainerStats, int) {
	now := time.Now().UnixNano()
	stats := &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{
			Id: c.id, Metadata: c.config.GetMetadata(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		},
		WritableLayer: fsInfo(r.options.Root),
	}
	count := 0
	if process := r.running(c); process != nil {
		var usage processUsage
		usage, count = usageBelow(table, process.init.Pid)
		stats.Cpu = &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: uint64(usage.cpu)}}
		memory := &runtimeapi.UInt64Value{Value: usage.memory}
		stats.Memory = &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: memory, UsageBytes: memory, RssBytes: memory}
	}
	return stats, count
}

// ContainerStats says what one container uses.
func (r *Runtime) ContainerStats(_ context.Context, request *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	c, err := r.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	stats, _ := r.statsOf(c, readProcesses())
	return &runtimeapi.ContainerStatsResponse{Stats: stats}, nil
}

// ListContainerStats says what containers use.
func (r *Runtime) ListContainerStats(ctx context.Context, request *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	filter := request.GetFilter()
	listed, err := r.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{
		Id: filter.GetId(), PodSandboxId: filter.GetPodSandboxId(), LabelSelector: filter.GetLabelSelector(),
	}})
	if err != nil {
		return nil, err
	}
	table := readProcesses()
	response := &runtimeapi.ListContainerStatsResponse{}
	for _, item := range listed.GetContainers() {
		if c, err := r.container(item.GetId()); err == nil {
			stats, _ := r.statsOf(c, table)
			response.Stats = append(response.Stats, stats)
		}
	}
	return response, nil
}

// PodSandboxStats says what one Pod uses.
func (r *Runtime) PodSandboxStats(ctx context.Context, request *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	listed, err := r.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{Filter: &runtimeapi.PodSandboxStatsFilter{Id: request.GetPodSandboxId()}})
	if err != nil {
		return nil, err
	}
	if len(listed.GetStats()) != 1 {
		return nil, status.Errorf(codes.NotFound, "sandbox %s does not exist", request.GetPodSandboxId())
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: listed.GetStats()[0]}, nil
}

// ListPodSandboxStats says what Pods use: the sum of their containers.
func (r *Runtime) ListPodSandboxStats(ctx context.Context, request *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	filter := request.GetFilter()
	listed, err := r.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		Id: filter.GetId(), LabelSelector: filter.GetLabelSelector(),
	}})
	if err != nil {
		return nil, err
	}
	table := readProcesses()
	response := &runtimeapi.ListPodSandboxStatsResponse{}
	for _, item := range listed.GetItems() {
		pod := &runtimeapi.LinuxPodSandboxStats{
			Cpu: &runtimeapi.CpuUsage{UsageCoreNanoSeconds: &runtimeapi.UInt64Value{}}, Memory: &runtimeapi.MemoryUsage{WorkingSetBytes: &runtimeapi.UInt64Value{}},
			Process: &runtimeapi.ProcessUsage{ProcessCount: &runtimeapi.UInt64Value{}},
		}
		containers, err := r.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: item.GetId()}})
		if err != nil {
			return nil, err
		}
		for _, one := range containers.GetContainers() {
			c, err := r.container(one.GetId())
			if err != nil {
				continue
			}
			stats, count := r.statsOf(c, table)
			pod.Containers = append(pod.Containers, stats)
			pod.Cpu.UsageCoreNanoSeconds.Value += stats.GetCpu().GetUsageCoreNanoSeconds().GetValue()
			pod.Memory.WorkingSetBytes.Value += stats.GetMemory().GetWorkingSetBytes().GetValue()
			pod.Process.ProcessCount.Value += uint64(count)
		}
		now := time.Now().UnixNano()
		pod.Cpu.Timestamp, pod.Memory.Timestamp, pod.Process.Timestamp = now, now, now
		response.Stats = append(response.Stats, &runtimeapi.PodSandboxStats{Linux: pod, Attributes: &runtimeapi.PodSandboxAttributes{
			Id: item.GetId(), Metadata: item.GetMetadata(), Labels: item.GetLabels(), Annotations: item.GetAnnotations(),
		}})
	}
	return response, nil
}
