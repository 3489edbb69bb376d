"""The observer: a process of its own that shows what hooks came to, and tells others.

It serves HTTP (metrics, health, the status page) and runs the sinks. It is a process, and not a part of the daemon, so
that it may be slow, ill or gone without any hook or call noticing: it reads the journal's file, asks the admin socket
like everybody else, and has a lower priority. The daemon imports ``supervisor`` and nothing else from here.
"""
