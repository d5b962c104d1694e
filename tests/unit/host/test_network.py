"""Which network interfaces have an address or a route."""

from hypothesis import given
from hypothesis import strategies as st

from usb_provider.host.network import interfaces_in_use, parse_any_routes, parse_if_inet6, parse_pppoe

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
enx0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
down0\t0002A8C0\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ZERO = "0" * 32
ROUTES6 = f"""\
20010db8{"0" * 24} 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     enx1
fe80{"0" * 28} 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     enx2
ff00{"0" * 28} 08 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     enx3
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
"""


def test_any_route_counts_but_those_that_each_interface_gets() -> None:
    assert parse_any_routes(ROUTES, ROUTES6) == {"enx0", "enx1"}


def test_an_ipv6_address_counts_unless_it_is_link_local() -> None:
    text = f"20010db8{'0' * 23}1 05 40 00 80 enx1\nfe80{'0' * 27}1 06 40 20 80 enx2\n"
    assert parse_if_inet6(text) == {"enx1": "2001:db8::1"}


def test_the_interface_below_a_pppoe_session_is_known() -> None:
    assert parse_pppoe("Id       Address              Device\n0200   00:90:1a:00:00:01   enx0\n") == ["enx0"]


@given(st.text("0123456789abcdefx\t \n"))
def test_tables_of_any_form_are_read(text: str) -> None:
    parse_any_routes(text, text)
    parse_if_inet6(text)
    parse_pppoe(text)


def test_what_this_very_host_uses_can_be_asked() -> None:
    assert all(isinstance(what, str) for what in interfaces_in_use().values())
