package work

// maxRefusals is after how many refusals in a row, about a second of them, nothing is believed any more that was
// remembered. A cache that lags behind catches up before; an etcd that was restored from a backup does not, since its
// versions count from there again.
const maxRefusals = 10

// Refusals counts the passes in a row over one object of which the API server knew more. Its zero value has seen none.
type Refusals struct {
	inRow int
}

// Count notes whether the API server knew more than a pass, and says whether what is remembered of the object has to be
// forgotten, and read again from the cache: then it counts anew.
func (r *Refusals) Count(refused bool) (forget bool) {
	if !refused {
		r.inRow = 0
		return false
	}
	if r.inRow++; r.inRow < maxRefusals {
		return false
	}
	r.inRow = 0
	return true
}
