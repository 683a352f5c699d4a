package main

import (
	"os"
	"runtime/debug"
	"sync"

	dpsync "github.com/fairlead/fairlead/dataplane/sync"
)

// garbagePercent is how much garbage may gather, of what lives, before it is collected, unless GOGC says otherwise. It is
// little: changes make hardly any, and every node pays for the memory.
const garbagePercent = 25

// memory gives back what a write of everything took: that is more than what is kept, and would stay until as much garbage
// has gathered again. Until the first such write collecting garbage would only hold it up.
type memory struct {
	frugal sync.Once
}

// Synced is a dpsync.Observer's.
func (m *memory) Synced(r dpsync.Result) {
	if !r.Full || r.Err != nil {
		return
	}
	if os.Getenv("GOGC") == "" {
		m.frugal.Do(func() { debug.SetGCPercent(garbagePercent) })
	}
	go debug.FreeOSMemory() // beside, since changes may be waiting
}
