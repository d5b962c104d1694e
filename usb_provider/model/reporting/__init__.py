"""What Placement holds, what it should hold, and the plan between the two. Pure."""
