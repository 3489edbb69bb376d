"""The command line, each command as a process and its output as a person sees it."""
