"""The edges of hookshim: the CRI front door, containerd, the handlers, and the command line."""

from importlib.metadata import version

VERSION = version("hookshim")
