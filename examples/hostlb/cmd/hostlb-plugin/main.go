// Command hostlb-plugin serves the provider hostlb to a manager on the same host. It needs CAP_NET_ADMIN; the manager then
// does not.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"

	"example.com/hostlb"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/plugin"
)

func main() {
	socket := flag.String("socket", "/run/fairlead/hostlb.sock", "where the manager finds the plugin (cloud.plugins in its configuration)")
	pools := flag.String("pools", "/etc/hostlb.json", "file that names the pools of addresses")
	flag.Parse()
	file, err := os.ReadFile(*pools)
	if err != nil {
		log.Fatalf("reading the pools: %v", err)
	}
	provider, err := hostlb.New(cloud.Config{File: file})
	if err != nil {
		log.Fatalf("%s: %v", *pools, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = plugin.Serve(ctx, *socket, provider)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}
