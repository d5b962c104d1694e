"""What a device on this host is: its description, its rule, whether it is offered, and its key. Pure."""
