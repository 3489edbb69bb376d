"""Tests of single modules, without a container runtime."""
