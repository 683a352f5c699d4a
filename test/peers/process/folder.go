package process

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
)

// Folder makes a folder for the programs' logs. To remove takes how the run ended, and returns that: the folder stays where it
// is to be kept, or where an error other than the end of ctx has to be looked into.
func Folder(ctx context.Context, keep bool) (dir string, remove func(error) error, err error) {
	dir, err = os.MkdirTemp("", "peers-")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder: %w", err)
	}
	return dir, func(err error) error {
		if err != nil && ctx.Err() == nil || keep {
			log.Printf("logs are in %s", dir)
			return err
		}
		return errors.Join(err, os.RemoveAll(dir))
	}, nil
}
