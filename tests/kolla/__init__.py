"""Kolla's own images and playbooks with our image and role: README.md."""
