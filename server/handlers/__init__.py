"""The handlers: what carries a hook to where it is meant to act, one module a kind."""
