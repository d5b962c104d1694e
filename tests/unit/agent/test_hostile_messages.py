"""What no libvirt sends, on the agent's socket: it gets an answer or is dropped, and nothing else comes of it."""

import json
import logging

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.fixtures.binder import host
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml, an_alias
from tests.fixtures.fake_host import FakeHost, a_uuid
from usb_provider.virt.protocol import HookCall, encode_answer, parse_question

__all__ = ["host"]

DIGITS = "9" * 5000
SURROGATE = "\\ud800"
DEEP = "<a>" * 2000 + "</a>" * 2000


def xmls() -> list[str]:
    """Domains that no libvirt has."""
    ours = a_hostdev_xml(an_alias())
    good = a_domain_xml("vm", a_uuid("vm"), ports=4, extra_specs={"resources:CUSTOM_USB_KEY": "1"}, devices=[ours])
    return [
        good.replace('bus="1"', f'bus="{DIGITS}"'),
        good.replace('device="3"', f'device="{DIGITS}"'),
        good.replace('ports="4"', f'ports="{DIGITS}"'),
        good.replace('index="0"', f'index="{DIGITS}"'),
        good.replace('port="1"', f'port="{DIGITS}"'),
        good.replace("</devices>", f"</devices>{DEEP}"),
        good.replace("<name>vm", "<name>vm\ud800"),
        good.replace(">1<", f">{DIGITS}<"),
        good.replace("CUSTOM_USB_KEY", "CUSTOM_USB_" + "A" * 5000),
        good.replace("<name>vm", "<name>\u202e\u2028evil"),
        f"<?xml version='1.0' encoding='nonsense'?>{good}",
        DEEP,
    ]


@pytest.mark.parametrize("operation", ["prepare", "started", "migrate", "restore"])
@pytest.mark.parametrize("number", range(len(xmls())))
def test_a_domain_that_no_libvirt_has_gets_an_answer(
    host: FakeHost, caplog: pytest.LogCaptureFixture, operation: str, number: int
) -> None:
    caplog.set_level(logging.DEBUG)
    host.plug("1-2")
    host.hold("1-2", "vm")
    message = json.dumps({"operation": operation, "guest": "vm\x1b[31m", "xml": xmls()[number]}).encode()
    question = parse_question(message)
    assert isinstance(question, HookCall)
    answer = json.loads(encode_answer(host.answer(question)))
    assert set(answer) <= {"refuse", "xml"}
    if operation == "restore":
        assert "refuse" not in answer
    assert all(record.getMessage().isprintable() for record in caplog.records)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
MESSAGES = st.binary(max_size=60) | st.builds(
    lambda operation, guest, xml, seconds: json.dumps(
        {"operation": operation, "guest": guest, "xml": xml, "seconds": seconds}
    ).encode(),
    JSON | st.sampled_from(["prepare", "started", "migrate", "restore"]),
    JSON,
    JSON | st.sampled_from(xmls()),
    JSON,
)


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_a_message_is_a_question_or_is_dropped_and_a_question_has_an_answer(message: bytes) -> None:
    try:
        question = parse_question(message)
    except ValueError as error:
        assert str(error).isprintable()
        return
    if isinstance(question, HookCall):
        json.loads(encode_answer(HOST.answer(question)))


HOST = FakeHost()
