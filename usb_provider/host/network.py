"""Which network interfaces the host uses: by address, route, or a PPP session over them; and USB network drivers.

usage.py asks it about the interfaces of USB devices. It sends nothing and opens no device.
"""

import re
import socket
from collections.abc import Mapping
from pathlib import Path

import psutil

from usb_provider.host.files import text_in

_RTF_UP = 0x1
_RTF_REJECT = 0x200
_PPP = re.compile(r"ppp\d+")
_ARPHRD_SERIAL = frozenset({"256", "257", "258", "259", "512"})
"""Types of interfaces that run over a serial port: SLIP in its forms, PPP (linux/if_arp.h)."""

NETWORK_DRIVERS = frozenset(
    {
        "MOSCHIP usb-ethernet driver",
        "aqc111",
        "asix",
        "ax88179_178a",
        "catc",
        "cdc_eem",
        "cdc_ether",
        "cdc_mbim",
        "cdc_ncm",
        "cdc_subset",
        "ch9200",
        "cx82310_eth",
        "dm9601",
        "gl620a",
        "huawei_cdc_ncm",
        "int51x1",
        "ipheth",
        "kalmia",
        "kaweth",
        "lan78xx",
        "lg-vl600",
        "net1080",
        "pegasus",
        "plusb",
        "qmi_wwan",
        "r8152",
        "r8153_ecm",
        "rndis_host",
        "rtl8150",
        "sierra_net",
        "smsc75xx",
        "smsc95xx",
        "sr9700",
        "sr9800",
        "zaurus",
    }
)
"""Drivers that give each device that they bind a network interface at once: drivers/net/usb of Linux."""


def interfaces_in_use() -> dict[str, str]:
    """``{interface: how the host uses it}`` in words, ``{"enx0": "has the address 10.0.0.5"}``.

    The link-local addresses and routes that the kernel gives to each interface that is up do not count.
    """
    in_use = dict.fromkeys(parse_any_routes(_text("net/route"), _text("net/ipv6_route")), "has a route")
    in_use |= dict.fromkeys(parse_pppoe(_text("net/pppoe")), "carries a PPPoE session")
    return in_use | {name: f"has the address {address}" for name, address in _addresses().items()}


def _addresses() -> dict[str, str]:
    found = parse_if_inet6(_text("net/if_inet6"))
    try:
        known = psutil.net_if_addrs()
    except OSError:
        return found
    for name, addresses in known.items():
        for each in addresses:
            if each.family == socket.AF_INET or (
                each.family == socket.AF_INET6 and not each.address.lower().startswith("fe80")
            ):
                found[name] = each.address
                break
    return found


def parse_any_routes(ipv4: str, ipv6: str) -> frozenset[str]:
    """Interfaces that /proc/net/route and /proc/net/ipv6_route give any route but those to link-local and multicast."""
    names = set()
    for line in ipv4.split("\n")[1:]:
        fields = line.split()
        if len(fields) >= 8 and flags(fields[3]) & _RTF_UP:
            names.add(fields[0])
    for line in ipv6.split("\n"):
        fields = line.split()
        if len(fields) < 10 or fields[0].lower().startswith(("fe8", "fe9", "fea", "feb", "ff")):
            continue
        if flags(fields[8]) & _RTF_UP and not flags(fields[8]) & _RTF_REJECT:
            names.add(fields[9])
    return frozenset(names)


def parse_if_inet6(text: str) -> dict[str, str]:
    """``{interface: address}`` of /proc/net/if_inet6, without link-local addresses (scope 20)."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        fields = line.split()
        if len(fields) >= 6 and re.fullmatch(r"[0-9a-fA-F]{32}", fields[0]) and fields[3] != "20":
            found.setdefault(fields[5], socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0])))
    return found


def parse_pppoe(text: str) -> list[str]:
    """The Ethernet interface of each session in /proc/net/pppoe, whose lines are ``Id Address Device``."""
    return [fields[2] for line in text.split("\n")[1:] if len(fields := line.split()) == 3]


def dial_up(in_use: Mapping[str, str]) -> str | None:
    """A PPP or SLIP interface that may run over a serial device: one in use that no PPPoE session explains.

    It goes by the kind of the interface: pppd gives it any name (option ifname).
    """
    ppp = sorted(name for name in in_use if _PPP.fullmatch(name) or _type(name) in _ARPHRD_SERIAL)
    return ppp[-1] if len(ppp) > len(parse_pppoe(_text("net/pppoe"))) else None


def flags(field: str) -> int:
    """The flags of a route, in hexadecimal; 0 when they are of another form."""
    return int(field, 16) if re.fullmatch(r"[0-9a-fA-F]+", field) else 0


def _type(name: str) -> str:
    return text_in(f"/sys/class/net/{name}/type").strip()


def _text(name: str) -> str:
    try:
        return Path("/proc", name).read_bytes().decode("utf-8", "backslashreplace")
    except OSError:
        return ""
