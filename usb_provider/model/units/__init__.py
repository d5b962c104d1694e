"""What a provider counts: one device, or the members of a pool, and which unit is whose. Pure."""
