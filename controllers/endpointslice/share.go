package endpointslice

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// maxShared and maxSharedBytes bound how many different things a pool remembers, and how long their keys are together.
// More than that are not of templates. Without the second, Pods with a megabyte of labels each, made and deleted one after
// the other, would be remembered when they are long gone.
const (
	maxShared      = 1 << 14
	maxSharedBytes = 8 << 20
)

// pool keeps one of several equal parts of Pods. Those of one template have the same labels and ports, which would
// otherwise be half of all that the cache holds. What it hands out is shared and must not be changed. It is safe for
// concurrent use.
type pool[T any] struct {
	mu    sync.Mutex
	byKey map[string]T
	// bytes is how long the keys of byKey are together.
	bytes int
	key   []byte
}

// share returns the part that has the same key as part, which is part itself where it is the first. Once there are too
// many the pool begins anew: what was shared stays so.
func (p *pool[T]) share(part T, appendKey func([]byte, T) []byte) T {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key = appendKey(p.key[:0], part)
	if first, ok := p.byKey[string(p.key)]; ok {
		return first
	}
	if len(p.key) > maxSharedBytes/128 {
		return part // Few of these would make the pool begin anew.
	}
	if p.byKey == nil || len(p.byKey) >= maxShared || p.bytes+len(p.key) > maxSharedBytes {
		p.byKey, p.bytes = map[string]T{}, 0
	}
	p.byKey[string(p.key)] = part
	p.bytes += len(p.key)
	return part
}

var (
	sharedLabels     pool[map[string]string]
	sharedContainers pool[[]corev1.Container]
)

func appendString[T ~string](key []byte, text T) []byte {
	return append(binary.AppendUvarint(key, uint64(len(text))), text...)
}

func appendLabels(key []byte, labels map[string]string) []byte {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		key = appendString(appendString(key, name), labels[name])
	}
	return key
}

// appendContainers describes all that portsAlone leaves of containers.
func appendContainers(key []byte, containers []corev1.Container) []byte {
	for i := range containers {
		c := &containers[i]
		key = binary.AppendUvarint(key, uint64(len(c.Ports)))
		if c.RestartPolicy == nil {
			key = append(key, 0)
		} else {
			key = appendString(append(key, 1), *c.RestartPolicy)
		}
		for _, p := range c.Ports {
			key = appendString(appendString(binary.AppendVarint(key, int64(p.ContainerPort)), p.Name), p.Protocol)
		}
	}
	return key
}
