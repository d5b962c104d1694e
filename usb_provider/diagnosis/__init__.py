"""What is wrong on a compute node, and what to do about it: one class for each check, and the code that runs them."""
