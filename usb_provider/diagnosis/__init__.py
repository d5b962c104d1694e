"""What is wrong on a compute node: one check a file, with its facts and its judgement."""
