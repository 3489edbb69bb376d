"""What runs hookshim for good: the unit, the service manager's protocol, the packages, the installer of a cluster."""
