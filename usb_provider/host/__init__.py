"""The door to this host's hardware: the only package that imports pyudev. It decides nothing; model/ does."""
