TEXT = "Everything, on an embedded Placement."


def declare(c):
    pass


def run(a):
    return 0
