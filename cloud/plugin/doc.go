// Package plugin carries the contract of package cloud over a unix socket, so that a provider can be a process of its own:
// it is built, released, restarted and broken without the manager. The plugin serves, the manager is the client.
//
// A plugin in Go is a provider and this main:
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//		defer stop()
//		if err := plugin.Serve(ctx, "/run/fairlead/rack.sock", rack.New()); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// In another language it serves v1alpha1/provider.proto over gRPC. The manager finds it by cloud.plugins in its
// configuration.
//
// # What differs from a provider that is linked in
//
//   - A plugin that is not there, or not yet, is an error of class RetryAfter that names the socket. Desired and
//     Capabilities cannot say so in process, so that Client.Desired returns it as its error, and Capabilities what the
//     plugin said last. A plugin that comes back may say something else.
//   - Each call has a deadline. One that passed leaves open what the call did, as any error does: the core looks again.
//   - Errors arrive with their class, their time and their text, not with the types of their chain. The plugin's own
//     Classify decides, in the plugin.
//   - Limits are kept on both sides: the manager spends one call for each method, and lets urgent ones go first; the
//     plugin, which alone knows what a method sends, keeps its calls to the same limits (Serve does, with cloud.Limited).
//
// It is not a sandbox: a plugin holds the cloud's credentials, and the manager believes what it says.
package plugin

// Contract is the version of the contract that this package speaks. It is raised when a plugin that knows the one before
// could do wrong, and not when something is added that such a plugin may ignore.
const Contract = 1

// maxMessage bounds one message, in bytes, on both sides. A resource with 100,000 targets fits.
const maxMessage = 16 << 20
