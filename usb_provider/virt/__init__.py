"""The door to libvirt: the only package that imports it, with the hook that libvirt runs and its listener."""
