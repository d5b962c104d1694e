"""Composition roots: each command reads the configuration, makes the objects and prints the result."""
