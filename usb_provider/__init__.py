"""USB devices of a compute node as schedulable resources in OpenStack Placement."""
