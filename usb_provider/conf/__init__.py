"""Option declarations, one module for each group, and their reading into values. Only oslo.config does I/O here."""
