"""What is fuzzed, one function for each kind of input, and what must hold whatever the input is.

No wrong attach, no name that Placement refuses, no exception other than our own, one printable sentence for each.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import jsonschema
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from placement.schemas import resource_class as class_schema
from placement.schemas import resource_provider as provider_schema
from placement.schemas import trait as trait_schema

from tests.fixtures.builders import ROOT, a_device, a_spec
from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml, an_alias
from tests.fixtures.fake_host import FakeHost, a_uuid
from tests.fixtures.hostile import any_text
from tests.fixtures.hostile_messages import MESSAGES, xmls
from tests.fixtures.hostile_rules import plausible, rule_texts
from tests.unit.agent.test_binder_state_machine import OneHostMachine
from usb_provider.conf import load
from usb_provider.conf.opts import OWN_GROUPS
from usb_provider.demo.recording import RecordingError, bundled, parse
from usb_provider.exception import ConfigError
from usb_provider.model.binding.decision import decide
from usb_provider.model.binding.guests import RunningGuest
from usb_provider.model.binding.holding import Holding
from usb_provider.model.binding.hostdev import UnreadableDomain, parse_guest
from usb_provider.model.devices.device import UnreadableDevice, UsbDevice
from usb_provider.model.devices.spec import IdentityMode, parse_specs
from usb_provider.model.reporting.provider import Assessment, assess
from usb_provider.virt import hook
from usb_provider.virt.protocol import HookCall, encode_answer, parse_question

TARGETS: dict[str, Callable[[], None]] = {}
TRIED: dict[str, int] = {}


def target(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Fuzz the decorated test as *name*."""

    def add(test: Callable[[], None]) -> Callable[[], None]:
        TARGETS[name] = test
        TRIED[name] = 0
        return test

    return add


def check_names(each: Assessment) -> None:
    """Placement's own schemas take everything that would be written for *each*."""
    assert each.reason.isprintable()
    want = each.desired
    if want is None:
        return
    body = json.loads(json.dumps({"uuid": want.uuid, "name": want.name, "parent_provider_uuid": ROOT.uuid}).encode())
    jsonschema.validate(body, provider_schema.POST_RP_SCHEMA_V1_14, format_checker=jsonschema.FormatChecker())
    want.name.encode("utf-8")
    jsonschema.validate({"name": want.resource_class}, class_schema.POST_RC_SCHEMA_V1_2)
    for name in want.traits:
        jsonschema.validate(name, trait_schema.CUSTOM_TRAIT)


# Descriptors

raw = any_text.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=300)
attributes = st.dictionaries(
    st.sampled_from(
        ["serial", "product", "manufacturer", "bDeviceClass", "speed", "busnum", "devnum", "bConfigurationValue"]
    ),
    raw | st.sampled_from([b"480", b"00", b"ff", b"1", b"9" * 5000]),
)
ids = st.sampled_from([b"1050", b"0407", b"0000", b"ffff"]) | st.binary(max_size=6)
properties = st.dictionaries(
    st.sampled_from(["ID_USB_INTERFACES", "ID_VENDOR_ID", "BUSNUM", "DEVNUM"]),
    any_text | st.just(":030101:0b0000:080650:"),
)


@target("descriptors")
@given(st.lists(st.tuples(attributes, properties, ids, ids), max_size=4), st.sampled_from(IdentityMode), st.booleans())
def descriptors(
    found: list[tuple[dict[str, bytes], dict[str, str], bytes, bytes]], mode: IdentityMode, serial_trait: bool
) -> None:
    """Devices that say anything: distinct providers, with names that Placement takes."""
    TRIED["descriptors"] += 1
    devices = []
    for port, (has, says, vendor, product) in enumerate(found, start=1):
        with contextlib.suppress(UnreadableDevice):
            path = f"/sys/devices/pci0000:00/0000:00:14.0/usb1/1-{port}"
            devices.append(UsbDevice.from_udev(path, says, has | {"idVendor": vendor, "idProduct": product}))
    assessed = assess(devices, [a_spec(1, identity=mode)], root=ROOT, serial_trait=serial_trait)
    for each in assessed:
        check_names(each)
    assert len({each.provider_uuid for each in assessed}) == len(devices)


# Domains


@st.composite
def domains(draw: st.DrawFn) -> str:
    """A domain of Nova's, with some of its text replaced."""
    hostdevs = [
        a_hostdev_xml(an_alias(draw(st.integers(1, 3))), draw(st.integers(0, 300)), draw(st.integers(0, 300)))
        for _ in range(draw(st.integers(0, 3)))
    ]
    text = a_domain_xml("vm", a_uuid("vm"), ports=draw(st.integers(0, 20)), devices=hostdevs)
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(text)))
        end = draw(st.integers(begin, min(len(text), begin + 30)))
        text = text[:begin] + draw(any_text | st.sampled_from(["<", ">", "'", "&#0;", "9" * 5000])) + text[end:]
    return text


HELD_BY_ANOTHER = "5d3c0c0e-30a5-4c55-8d43-3ad1b9e4b0aa"


@target("domain XML")
@given(domains() | st.sampled_from(xmls()) | any_text)
def domain_xml(text: str) -> None:
    """A domain that says anything gets no device that its guest does not hold, and loses none of another's."""
    TRIED["domain XML"] += 1
    heard = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")  # as the hook reads what libvirt writes
    hook.restored(heard)
    hook.needs_agent("prepare", heard)
    hook.needs_agent("migrate", heard)
    try:
        guest = parse_guest(text)
    except UnreadableDomain as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    assert guest.name.isprintable()
    assessed = assess([a_device("1-2", serial="A1")], [a_spec(1)], root=ROOT)[0]
    assert assessed.provider_uuid is not None
    holding = Holding(assessed.provider_uuid, "p", frozenset({HELD_BY_ANOTHER}), assessed)
    decision = decide([RunningGuest(guest)], [holding], known_consumers={guest.uuid, HELD_BY_ANOTHER})
    if guest.uuid != HELD_BY_ANOTHER:
        assert decision.attaches == ()
    assert all(each.hostdev in guest.ours for each in decision.detaches)


# Messages of hooks

HOST = FakeHost()


@target("hook messages")
@given(MESSAGES)
def hook_messages(message: bytes) -> None:
    """A message is a question with an answer, or a mistake in one printable sentence."""
    TRIED["hook messages"] += 1
    try:
        question = parse_question(message)
    except ValueError as error:
        assert str(error).isprintable()
        return
    if isinstance(question, HookCall):
        json.loads(encode_answer(HOST.answer(question)))


# Rules


@target("rules")
@given(st.lists(rule_texts, max_size=3))
def rules(texts: list[str]) -> None:
    """Rules are read and give names that Placement takes, or each mistake is one printable sentence."""
    TRIED["rules"] += 1
    try:
        specs = parse_specs(texts)
    except ConfigError as error:
        assert all(problem.isprintable() for problem in error.problems)
        return
    for each in assess([a_device("1-2", serial="A1"), a_device("1-3")], specs, root=ROOT):
        check_names(each)


# Configurations

OPTIONS = [(module.group.name, opt.name) for module in OWN_GROUPS for opt in module.opts]
values = (
    any_text | plausible | st.integers().map(str) | st.sampled_from(["9" * 5000, "nan", "$state_dir", "/a", "true"])
)
configurations = st.lists(st.tuples(st.sampled_from(OPTIONS), values), max_size=6).map(
    lambda chosen: "".join(f"[{group}]\n{name} = {value}\n" for (group, name), value in chosen)
)


@target("configurations")
@given(configurations | any_text)
def a_configuration(text: str) -> None:
    """A file is read, or each mistake in it is one printable sentence."""
    TRIED["configurations"] += 1
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "usb.conf")
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            load.read(load.open_files(["--config-file", str(path)]))
        except ConfigError as error:
            assert all(problem.isprintable() for problem in error.problems)


# Recordings

RECORDED = (bundled() / "yubikey.umockdev").read_text(encoding="utf-8").split("\n")
lines = st.sampled_from(RECORDED) | any_text | st.sampled_from(["", "P: /devices/x", "E: SUBSYSTEM=usb", "A: a=\\n"])


@target("recordings")
@given(st.lists(st.tuples(st.integers(0, len(RECORDED)), lines), max_size=5) | st.lists(lines, max_size=5))
def recordings(changes: list[tuple[int, str]] | list[str]) -> None:
    """A recording is read, or refused in a sentence that says where."""
    TRIED["recordings"] += 1
    text = list(RECORDED) if changes and isinstance(changes[0], tuple) else []
    for change in changes:
        if isinstance(change, tuple):
            text[change[0] : change[0] + 1] = [change[1]]
        else:
            text.append(change)
    with contextlib.suppress(RecordingError):
        assert parse("\n".join(text))


# Hands, guests, faults and crashes


class CountedMachine(OneHostMachine):
    """Counts its runs."""

    def __init__(self) -> None:
        super().__init__()
        TRIED["plugs, guests and crashes"] += 1


@target("plugs, guests and crashes")
def plugs_guests_and_crashes() -> None:
    """Two guests never have one device, and what a guest does not hold it loses."""
    run_state_machine_as_test(CountedMachine)
