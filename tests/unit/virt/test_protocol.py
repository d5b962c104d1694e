"""What goes over the agent's socket: the same bytes as ever, and any bytes are a message or an error."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from usb_provider.model.binding.status import AwaitedNeighbour, BindingState, DeviceStatus, GuestStatus, RefusedStart
from usb_provider.virt.protocol import (
    Allowed,
    Answer,
    HookCall,
    Operation,
    Question,
    Refused,
    Rewritten,
    StatusAnswer,
    StatusQuestion,
    encode_answer,
    encode_question,
    guest_json,
    parse_answer,
    parse_question,
)

texts = st.text()  # without halves of surrogate pairs
moments = st.floats(0, 1e11)
devices = st.builds(DeviceStatus, texts, texts, st.sampled_from(BindingState), moments, st.none() | texts)
refusals = st.builds(RefusedStart, texts, moments)
guests = st.builds(
    GuestStatus, texts, st.none() | texts, st.lists(devices, max_size=3).map(tuple), st.none() | refusals
)
questions: st.SearchStrategy[Question] = st.just(StatusQuestion()) | st.builds(
    HookCall, st.sampled_from(Operation), texts, texts
)
answers: st.SearchStrategy[Answer] = (
    st.just(Allowed())
    | st.builds(Refused, st.text(min_size=1))
    | st.builds(Rewritten, st.text(min_size=1))
    | st.builds(StatusAnswer, st.lists(guests, max_size=3).map(tuple), st.none() | moments)
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
)
names = ["operation", "guest", "xml", "guests", "refuse", "hook_called_at", "uuid", "name", "devices", "since"]
messages = st.dictionaries(
    st.sampled_from(names), values | st.sampled_from(["prepare", "status", "attach"]), max_size=6
).map(lambda message: json.dumps(message).encode())


@given(questions)
def test_a_question_arrives_as_it_was_asked(question: Question) -> None:
    assert parse_question(encode_question(question)) == question


@given(answers)
def test_an_answer_arrives_as_it_was_given(answer: Answer) -> None:
    assert parse_answer(encode_answer(answer)) == answer


@given(st.binary() | messages)
@example(b"[" * 5000)
@example(b"1" * 5000)
@example(b'{"guests": [], "hook_called_at": 1' + b"0" * 400 + b"}")
@example(b'{"guests": [], "hook_called_at": NaN}')
@example(b'{"operation": "prepare", "guest": "\\ud800", "xml": "\\udfff"}')
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    for parse in (parse_question, parse_answer):
        try:
            parse(data)
        except ValueError:
            continue


@given(st.binary() | messages | questions.map(encode_question))
def test_what_is_asked_is_text_that_every_parser_of_xml_and_every_log_takes(data: bytes) -> None:
    try:
        question = parse_question(data)
    except ValueError:
        return
    if isinstance(question, HookCall):
        (question.guest + question.xml).encode()


@pytest.mark.parametrize(
    ("data", "question"),
    [
        (b'{"operation": "prepare", "guest": "vm", "xml": "<d/>"}', HookCall(Operation.PREPARE, "vm", "<d/>")),
        (b'{"operation": "started", "guest": "vm", "xml": ""}', HookCall(Operation.STARTED, "vm", "")),
        (b'{"operation": "migrate", "guest": "vm", "xml": "\\u00e4"}', HookCall(Operation.MIGRATE, "vm", "ä")),
        (b'{"operation": "restore", "guest": "vm", "xml": "<d/>"}', HookCall(Operation.RESTORE, "vm", "<d/>")),
        (b'{"operation": "status"}', StatusQuestion()),
    ],
)
def test_a_hook_or_command_that_was_installed_long_ago_is_understood_and_an_agent_that_was_understands(
    data: bytes, question: Question
) -> None:
    assert parse_question(data) == question
    assert encode_question(question) == data


def test_an_operation_of_a_newer_hook_is_none_of_ours() -> None:
    assert parse_question(b'{"operation": "attach", "guest": "vm", "xml": "<d/>"}') is None


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"[]", b"{}", b'{"operation": 1}', b'{"operation": "prepare", "xml": 1}']
)
def test_what_is_no_question_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(it is not|xml is not a text)"):
        parse_question(data)


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (Allowed(), b"{}"),
        (Refused("No port."), b'{"refuse": "No port."}'),
        (Rewritten("<d/>"), b'{"xml": "<d/>"}'),
        (StatusAnswer((), None), b'{"guests": [], "hook_called_at": null, "awaited": [], "read_at": null}'),
        (
            StatusAnswer((), 5.5, (AwaitedNeighbour("libvirt", 1.5, "It is away."),), 2.5),
            b'{"guests": [], "hook_called_at": 5.5, "awaited": [{"name": "libvirt", "since": 1.5, "said": "It is '
            b'away."}], "read_at": 2.5}',
        ),
    ],
)
def test_a_hook_that_was_installed_long_ago_understands_the_answer(answer: Answer, data: bytes) -> None:
    assert encode_answer(answer) == data
    assert parse_answer(data) == answer


def test_an_agent_of_an_older_version_says_nothing_of_what_it_waits_for() -> None:
    assert parse_answer(b'{"guests": [], "hook_called_at": 5.5}') == StatusAnswer((), 5.5)


@pytest.mark.parametrize("made", [Refused, Rewritten])
def test_what_the_hook_would_take_for_permission_cannot_be_said(made: type[Refused] | type[Rewritten]) -> None:
    with pytest.raises(ValueError, match="needs"):
        made("")


def test_status_prints_the_same_names_in_the_same_order_as_ever() -> None:
    device = DeviceStatus("p", "n", BindingState.WAITING, 5.0, "it is not plugged in")
    assert json.dumps(guest_json(GuestStatus("u", "vm", (device,)))) == (
        '{"uuid": "u", "name": "vm", "devices": [{"provider_uuid": "p", "provider_name": "n", "state": "waiting", '
        '"since": 5.0, "reason": "it is not plugged in"}]}'
    )
    assert json.dumps(guest_json(GuestStatus("u", None, (), RefusedStart("no", 5.0)))) == (
        '{"uuid": "u", "name": null, "devices": [], "refused": {"reason": "no", "since": 5.0}}'
    )
