// Command topology plays random Services to what gives topology hints, upstream's topologycache and trafficDistribution
// and our topology library, and writes tables and plots of what comes of it: how many Services have no hints, how much
// traffic crosses zones, how unevenly endpoints are loaded, and what a flap of one endpoint changes for the others.
//
// What hints come to is worked out here, from what a proxy does with them, and so is the optimum: by dynamic programming
// over zones, with nothing of the library. It is an error if the library does not reach it for each of the Services.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:], os.Stdout); err != nil {
		log.Fatal("topology: ", err)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("topology", flag.ContinueOnError)
	services := flags.Int("services", 2000, "Services of each population")
	docs := flags.String("docs", "", "the folder that gets the page topology-figures.md and img/topology-*.svg; empty: none")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reading flags: %w", err)
	}
	if *services < 1 || flags.NArg() > 0 {
		return fmt.Errorf("reading flags: at least one Service, and no arguments")
	}
	var results []result
	for _, p := range populations {
		r, err := play(p, *services)
		if err != nil {
			return fmt.Errorf("playing %s: %w", p.name, err)
		}
		results = append(results, r)
	}
	var page bytes.Buffer
	writePage(&page, results, *services)
	if _, err := out.Write(page.Bytes()); err != nil {
		return fmt.Errorf("writing the tables: %w", err)
	}
	if *docs == "" {
		return nil
	}
	if err := os.WriteFile(filepath.Join(*docs, "topology-figures.md"), page.Bytes(), 0o644); err != nil { //nolint:gosec // a page for everybody
		return fmt.Errorf("writing the page: %w", err)
	}
	return writePlots(filepath.Join(*docs, "img"), results)
}
