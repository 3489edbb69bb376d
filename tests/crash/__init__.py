"""Tests that kill the daemon at every step and look at what became of the hooks."""
