package topology

// portion is some endpoints of one place that serve the same zones. Nil zones: they have no hints.
type portion struct {
	place string
	zones []string
	size  int
}

// after returns what groups come to when moves are made.
func after(groups []*group, moves []move) []portion {
	left := make(map[*group]int, len(groups))
	var portions []portion
	for _, m := range moves {
		left[m.from] -= m.count
		portions = append(portions, portion{m.from.place, m.zones, m.count})
	}
	for _, g := range groups {
		if size := g.size + left[g]; size > 0 {
			portions = append(portions, portion{g.place, g.zones, size})
		}
	}
	return portions
}

// figures are what hints come to, if the demand of zones is in proportion to their weights and a proxy sends to each
// endpoint that it may choose alike.
type figures struct {
	// hinted: all endpoints have hints. Else no proxy heeds any.
	hinted bool
	// everywhere: they name every zone with demand. The clients of others are sent to all endpoints.
	everywhere bool
	cross      float64
	overload   float64
	// serving and local are by the number of a zone with demand.
	serving, local []int
}

// figures works out what portions come to. It takes hints as they are, and knows nothing of how they were found.
func (a *Assignment) figures(portions []portion) figures {
	f := figures{hinted: true, everywhere: true, serving: make([]int, len(a.zones)), local: make([]int, len(a.zones))}
	n, placed := 0, make([]int, len(a.zones))
	for _, p := range portions {
		n += p.size
		f.hinted = f.hinted && p.zones != nil
		if z, ok := a.zone(p.place); ok {
			placed[z] += p.size
		}
		for _, name := range p.zones {
			if z, ok := a.zone(name); ok {
				f.serving[z] += p.size
				if name == p.place {
					f.local[z] += p.size
				}
			}
		}
	}
	for z := range a.zones {
		if !f.hinted || f.serving[z] == 0 {
			f.serving[z], f.local[z] = n, placed[z]
			f.everywhere = false
		}
	}
	f.work(a.zones, a.total, portions, n)
	return f
}

// work fills in the shares of traffic.
func (f *figures) work(zones []demand, total uint64, portions []portion, n int) {
	stays, even := 0.0, 0.0
	byZone := make(map[string]float64, len(zones))
	for z, zone := range zones {
		each := float64(zone.weight) / float64(total) / float64(f.serving[z])
		stays += each * float64(f.local[z])
		if f.serving[z] == n {
			even += each
		} else {
			byZone[zone.zone] = each
		}
	}
	if n > 0 && total > 0 {
		f.cross = max(1-stays, 0)
	}
	for _, p := range portions {
		load := even
		if f.hinted {
			for _, zone := range p.zones {
				load += byZone[zone]
			}
		}
		f.overload = max(f.overload, load*float64(n)-1)
	}
}
