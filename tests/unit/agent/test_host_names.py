"""What this host is called is asked again and again, and an answer that never comes holds nothing up."""

import threading
import time

import pytest

from usb_provider.agent import host_names
from usb_provider.agent.host_names import HostNames, NamesInquiry


def test_an_answer_that_comes_soon_is_waited_for() -> None:
    inquiry = NamesInquiry(lambda: HostNames(("host1",), "host1.example.org"))
    assert inquiry.latest.by_libvirt is None
    inquiry.ask()
    assert inquiry.latest == HostNames(("host1",), "host1.example.org")


def test_a_libvirt_that_hangs_is_waited_for_once_and_its_late_answer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_names, "_WAIT_SECONDS", 0.1)
    goes_on, answered = threading.Event(), threading.Event()

    def names() -> HostNames:
        goes_on.wait(30.0)
        answered.set()
        return HostNames(("host1",), "host1")

    inquiry = NamesInquiry(names)
    inquiry.ask()
    began = time.monotonic()
    for _ in range(100):
        inquiry.ask()
    assert time.monotonic() - began < 100 * 0.1
    goes_on.set()
    assert answered.wait(30.0)
    latest = time.monotonic() + 30.0
    while inquiry.latest.by_libvirt is None and time.monotonic() < latest:
        time.sleep(0.01)
    assert inquiry.latest.by_libvirt == "host1"


def test_a_name_stays_while_libvirt_does_not_answer() -> None:
    answers = [HostNames(("host1",), "host1"), HostNames()]
    inquiry = NamesInquiry(lambda: answers.pop(0))
    inquiry.ask()
    inquiry.ask()
    assert answers == []
    assert inquiry.latest == HostNames(("host1",), "host1")
