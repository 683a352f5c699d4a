package fake

import (
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// Fault makes coming calls fail. Kind is that of the object; of a Create that fails late what it made is Failed in the end.
type Fault = faults.Fault[error]

// Inject adds faults to the script. They strike in the order in which they were added.
func (c *Cloud) Inject(script ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.Add(script...)
}

// SetLimits changes the limits of the account, as a cloud may at any time. The bursts are whole again.
func (c *Cloud) SetLimits(limits cloud.Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowance = faults.NewAllowance(limits)
}

// throttle refuses a call beyond the account's limits. With c.mu held.
func (c *Cloud) throttle(write bool) error {
	wait := c.allowance.Take(c.now(), write)
	if wait == 0 {
		return nil
	}
	err := refuse(CodeThrottled, "the account may not send so many calls a second")
	if !c.options.NoRetryAfter {
		err.RetryAfterSeconds = faults.Seconds(wait)
	}
	return err
}
