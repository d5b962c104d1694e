"""A standing problem is one line when it comes up and one when it is over."""

import logging

import pytest

from usb_provider.agent.notices import Notices, bug
from usb_provider.model.reporting.plan import Note


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def failure(text: str = "a bug") -> KeyError:
    try:
        raise KeyError(text)
    except KeyError as error:
        return error


def test_a_problem_that_stands_is_said_once_and_once_when_it_is_over(said: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for _ in range(3):
        notices.replace([Note("disk", "The disk is full."), Note("fan", "The fan is loud.")])
    notices.replace([Note("fan", "The fan is loud.")])
    notices.replace([Note("fan", "The fan is loud.")])
    assert [record.getMessage() for record in said.records] == [
        "The disk is full.",
        "The fan is loud.",
        "Resolved: The disk is full.",
    ]


def test_a_cause_that_changes_is_said_though_the_problem_has_not_ended(said: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for text in ("Connection refused.", "Connection refused.", "No route to the host.", "No route to the host."):
        notices.add(Note("placement", text))
    notices.replace([])
    assert [record.getMessage() for record in said.records] == [
        "Connection refused.",
        "No route to the host.",
        "Resolved: No route to the host.",
    ]


def test_a_problem_that_comes_back_is_said_again(said: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for notes in ([Note("disk", "Full.")], [], [Note("disk", "Full.")]):
        notices.replace(notes)
    assert [record.levelname for record in said.records] == ["WARNING", "INFO", "WARNING"]


def test_a_bug_is_told_with_its_traceback_once_whatever_its_message_holds(said: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    for number in range(3):
        error = failure(f"a bug, number {number}")
        notices.add(bug("A pass", error), logging.ERROR, exc_info=error)
    assert said.text.count("Traceback") == 1
    assert said.text.count("A pass failed because of a bug in usb-provider (KeyError); the agent tries it again.") == 1
    notices.replace([])
    assert said.text.count("Resolved: A pass failed") == 1
