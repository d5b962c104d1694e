"""Which consumer holds which device, which devices a guest has, and what to do about the difference. Pure."""
