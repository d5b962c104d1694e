"""What is asked of Placement, and written to it, over openstack/. It decides nothing; model/ does."""
