"""Sinks as their receivers see them: an API server that validates, containerd's own bus."""
