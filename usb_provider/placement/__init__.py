"""The door to Placement: the only package that imports keystoneauth1. It decides nothing; model/ does."""
