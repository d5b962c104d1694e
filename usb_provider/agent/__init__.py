"""The daemon: two loops that never wait for each other, and the process around them."""
