package applet

func commands() map[string]command {
	return map[string]command{
		"cat": cat, "curl": curl, "date": date, "echo": echo, "env": printenv, "false": fails, "hostname": hostname, "id": id,
		"kill": kill, "ls": ls, "mkdir": mkdir, "nc": netcat, "nginx": nginx, "nslookup": nslookup, "printenv": printenv,
		"ps": ps, "rm": rm, "sh": shell, "sleep": sleep, "stty": stty, "touch": touch, "true": succeeds, "wget": wget,
	}
}
