"""What the tests stand on: a private containerd, an image, a CRI client, the daemon, a receiver."""
