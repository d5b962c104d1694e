"""The names of this host, the one first that is most likely Nova's hypervisor hostname."""

import socket


def hypervisor_hostnames() -> tuple[str, ...]:
    """Names to look for, none twice: as libvirt gives it to nova, then the short one.

    libvirt takes gethostname() if it has a dot or starts with "localhost", else the canonical name that the resolver
    gives (virGetHostname in src/util/virutil.c).
    """
    name = socket.gethostname()
    names = [name]
    if "." not in name and not name.startswith("localhost"):
        try:
            found = socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME)
        except OSError:
            found = []
        canonical = next((entry[3] for entry in found if entry[3]), "")
        if canonical and not canonical.startswith("localhost"):
            names.insert(0, canonical)
    names.append(name.partition(".")[0])
    return tuple(dict.fromkeys(names))
