"""What no libvirt sends, on the agent's socket: it gets an answer or is dropped, and nothing else comes of it."""

import json
import logging

import pytest
from hypothesis import given, settings

from tests.fixtures.binder import host
from tests.fixtures.fake_host import FakeHost
from tests.fixtures.hostile_messages import MESSAGES, xmls
from usb_provider.virt.protocol import HookCall, encode_answer, parse_question

__all__ = ["host"]


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
