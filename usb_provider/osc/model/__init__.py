"""What the openstack commands decide, without asking any service. Pure."""
