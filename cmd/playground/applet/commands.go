package applet

func commands() map[string]command { return map[string]command{"sleep": sleep, "echo": echo} }
