"""containerd's own API behind CRI's: its calls, and the processes and files of an exec that outlives this process."""
