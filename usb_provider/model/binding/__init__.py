"""Who holds which device, what a guest has, and what to do about the difference. Pure."""
