"""Tests that compare containerd with hookshim in front of it."""
