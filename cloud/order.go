package cloud

import (
	"fmt"
	"slices"
)

// layer sorts desired resources into layers: each depends on earlier layers only. Within a layer they are sorted by
// kind and key. Targets of one layer can be synchronised together.
func layer(desired []Resource) ([][]Resource, error) {
	byRef := make(map[Ref]*Resource, len(desired))
	for i := range desired {
		ref := desired[i].ref()
		if byRef[ref] != nil {
			return nil, fmt.Errorf("the provider wants %s twice", desired[i].Name())
		}
		byRef[ref] = &desired[i]
	}
	const visiting = -1
	depths := make(map[Ref]int, len(desired))
	var depthOf func(Ref) (int, error)
	depthOf = func(ref Ref) (int, error) {
		if depth, ok := depths[ref]; ok {
			if depth == visiting {
				return 0, fmt.Errorf("the provider's %s/%s depends on itself", ref.Kind, ref.Key)
			}
			return depth, nil
		}
		depths[ref] = visiting
		depth := 0
		for _, dep := range byRef[ref].DependsOn {
			to := Ref{Kind: dep.Kind, Key: dep.Key}
			if byRef[to] == nil {
				return 0, fmt.Errorf("the provider's %s/%s depends on %s/%s, which it does not want",
					ref.Kind, ref.Key, dep.Kind, dep.Key)
			}
			below, err := depthOf(to)
			if err != nil {
				return 0, err
			}
			depth = max(depth, below+1)
		}
		depths[ref] = depth
		return depth, nil
	}
	sorted := slices.Clone(desired)
	SortResources(sorted)
	var layers [][]Resource
	for i := range sorted {
		depth, err := depthOf(sorted[i].ref())
		if err != nil {
			return nil, err
		}
		for len(layers) <= depth {
			layers = append(layers, nil)
		}
		layers[depth] = append(layers[depth], sorted[i])
	}
	return layers, nil
}

// dependentsFirst returns the resources so that each comes before what it points to; otherwise in the order given.
// Circles, which only a broken cloud could have, are cut somewhere.
func dependentsFirst(observed []Resource) []*Resource {
	visited := make(map[string]bool, len(observed))
	var order []*Resource
	var visit func(r *Resource)
	visit = func(r *Resource) {
		if visited[identity(r)] {
			return
		}
		visited[identity(r)] = true
		for i := range observed {
			if pointsTo(&observed[i], r) {
				visit(&observed[i])
			}
		}
		order = append(order, r)
	}
	for i := range observed {
		visit(&observed[i])
	}
	return order
}
