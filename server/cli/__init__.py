"""The command ``hookshim``: what a node's owner types, a module for each group of commands.

| exit code | meaning |
|---|---|
| 0 | it was done, or what was asked for was answered |
| 1 | it could not be done, and the message says why; ``doctor`` and ``check-config``: there are problems |
| 2 | it was asked for wrongly: the command line, or the configuration |
| 3 | the daemon does not answer, and it has to be asked |

No answer on stdout is mixed with anything else; everything else goes to stderr.
"""

from server.cli.program import main

__all__ = ["main"]
