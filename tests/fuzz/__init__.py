"""Fuzzing of what reads declarations, guided by coverage: ``hack/fuzz``."""
