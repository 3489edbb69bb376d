"""Tests of the relay, server/relay: its parts alone, and the front door that they make."""
