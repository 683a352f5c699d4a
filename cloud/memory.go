package cloud

import "context"

// Memory keeps one text for each owner and outlives the process, for a provider that is Opaque: without it the provider
// would have to be told everything again after each start. A text that is lost costs that, too, and does no other harm.
// For several goroutines.
type Memory interface {
	// Recall returns the text; empty: none.
	Recall(ctx context.Context, owner Owner) (string, error)
	// Keep replaces it. Where there is no place for the owner's texts any more, since the Service is gone, it does nothing.
	Keep(ctx context.Context, owner Owner, text string) error
}
