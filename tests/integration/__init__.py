"""Tests against a real containerd."""
