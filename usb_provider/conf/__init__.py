"""Option declarations, one module a group, and their reading into values. No I/O but oslo.config's own."""
