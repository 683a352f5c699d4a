package plugin

// BoundAnswers has a client take fewer bytes in one answer than it does by itself.
func BoundAnswers(c *Client, bytes int) { c.maxAnswer = bytes }
