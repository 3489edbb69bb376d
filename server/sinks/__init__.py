"""Whom failed hooks are told to: the journal's events go on to Kubernetes, or to containerd's event bus.

An event is in the journal before it is told, and the cursor goes on after the receiver has taken it: at least once,
whatever dies. Nothing here is waited for by a hook or a call.
"""
