"""Tests of the engine: properties and simulation."""
