"""The devices of this host as values: description, rule, whether each is offered, and its key. Pure."""
