"""A host, a Placement and a scheduler to play with; no part of an agent on a compute node."""
