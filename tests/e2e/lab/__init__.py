"""A cloud on one machine: the control plane on loopback, and the virtual test host as its compute node."""
