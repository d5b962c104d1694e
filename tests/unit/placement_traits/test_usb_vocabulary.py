"""The CUSTOM_USB_* names: their spelling, whose they are, and what they say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement_traits import (
    CLASSES,
    INTERFACES,
    MANAGED,
    MAX_LENGTH,
    RESOURCE_CLASSES,
    SPEEDS,
    STATES,
    InvalidName,
    check_custom,
    class_code,
    class_trait,
    class_traits,
    describe,
    describe_interface,
    drain_reason,
    drain_reason_trait,
    is_owned,
    normalise,
    product_trait,
    serial_trait,
    speed_trait,
    vendor_trait,
)

HEX = "0123456789abcdefABCDEF"
ids = st.text(HEX, min_size=4, max_size=4)
codes = st.text("0123456789abcdef", min_size=2, max_size=2)
serials = st.one_of(st.text(), st.text("AB-_é ", min_size=200, max_size=400))


def fixed_traits() -> list[str]:
    """Give them in one order for all workers, which run what they all have collected alike."""
    speeds = [name for speed in SPEEDS if (name := speed_trait(speed))]
    return sorted([MANAGED, *STATES, *class_traits(CLASSES), *speeds])


def is_a_sentence(text: str | None) -> bool:
    return text is not None and text[0].isupper() and text.endswith(".") and text.isprintable()


@pytest.mark.parametrize("name", [*fixed_traits(), *RESOURCE_CLASSES])
def test_every_fixed_name_is_one_that_placement_accepts(name: str) -> None:
    assert check_custom(name) == name
    assert normalise(name) == name
    assert name.startswith("CUSTOM_USB_")


@pytest.mark.parametrize("name", [*fixed_traits(), *RESOURCE_CLASSES])
def test_every_fixed_name_has_a_sentence(name: str) -> None:
    assert is_a_sentence(describe(name))


def test_no_two_names_mean_the_same() -> None:
    names = [*fixed_traits(), *RESOURCE_CLASSES]
    assert len(set(names)) == len(names)
    sentences = [describe(name) for name in names]
    assert len(set(sentences)) == len(sentences)


def test_the_states_are_the_ones_the_agent_uses() -> None:
    assert {
        "CUSTOM_USB_STATE_ABSENT",
        "CUSTOM_USB_STATE_DRAINED",
        "CUSTOM_USB_STATE_WITHDRAWN",
        "CUSTOM_USB_STATE_RESERVED",
        "CUSTOM_USB_STATE_SHORT",
        "CUSTOM_USB_STATE_WAITING",
    } == STATES


def test_a_speed_has_a_trait_and_an_unknown_speed_has_none() -> None:
    assert speed_trait("high") == "CUSTOM_USB_SPEED_HIGH"
    assert speed_trait("super-plus") == "CUSTOM_USB_SPEED_SUPER_PLUS"
    assert speed_trait("unknown") is None
    assert speed_trait("warp") is None
    assert speed_trait(None) is None


def test_vendor_and_product_ids_are_upper_case_in_names() -> None:
    assert vendor_trait("096e") == "CUSTOM_USB_VENDOR_096E"
    assert vendor_trait("1050") == "CUSTOM_USB_VENDOR_1050"
    assert product_trait("1050", "0407") == "CUSTOM_USB_PRODUCT_1050_0407"
    assert product_trait("20A0", "42b1") == "CUSTOM_USB_PRODUCT_20A0_42B1"


@pytest.mark.parametrize("text", ["", "105", "10500", "0x1050", "105g", " 1050", "1050\n", "١٠٥٠"])
def test_an_id_must_be_exactly_four_hexadecimal_digits(text: str) -> None:
    with pytest.raises(InvalidName, match=r"USB vendor id .* four hexadecimal digits"):
        vendor_trait(text)
    with pytest.raises(InvalidName, match="USB vendor id"):
        product_trait(text, "0407")
    with pytest.raises(InvalidName, match="USB product id"):
        product_trait("1050", text)


def test_a_serial_becomes_a_trait() -> None:
    assert serial_trait("5-ab1") == "CUSTOM_USB_SERIAL_5_AB1"
    assert serial_trait("custom_7") == "CUSTOM_USB_SERIAL_CUSTOM_7"


@pytest.mark.parametrize("serial", ["", "   ", "\x00\x01", "序列号"])
def test_a_serial_with_nothing_to_keep_gives_no_trait(serial: str) -> None:
    assert serial_trait(serial) is None


def test_a_serial_of_300_characters_still_gives_a_valid_trait() -> None:
    name = serial_trait("a" * 300)
    assert name is not None
    assert len(check_custom(name)) == MAX_LENGTH


def test_a_serial_that_just_fits_is_not_cut() -> None:
    room = MAX_LENGTH - len("CUSTOM_USB_SERIAL_")
    assert serial_trait("a" * room) == "CUSTOM_USB_SERIAL_" + "A" * room
    cut = serial_trait("a" * (room + 1))
    assert cut is not None
    assert re.fullmatch(r"CUSTOM_USB_SERIAL_A+_[0-9A-F]{16}", cut)


def test_two_long_serials_that_differ_at_the_end_do_not_collide() -> None:
    assert serial_trait("a" * 300 + "1") != serial_trait("a" * 300 + "2")


def test_a_serial_with_broken_utf16_is_no_accident() -> None:
    assert serial_trait("\ud800" + "a" * 300) is not None


@pytest.mark.parametrize("value", ["hid", "HID", " Hid ", "3", "03", "0x03", "0X3", "CUSTOM_USB_CLASS_HID"])
def test_a_class_can_be_written_as_word_number_or_trait(value: str) -> None:
    assert class_code(value) == "03"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("mass-storage", "08"),
        ("mass_storage", "08"),
        ("Mass Storage", "08"),
        ("per-interface", "00"),
        ("0", "00"),
        ("FF", "ff"),
        ("a", "0a"),
        ("10", "10"),
        ("58", "58"),
        ("CUSTOM_USB_CLASS_58", "58"),
        ("cdc", "02"),
        ("ccid", "0b"),
        ("uvc", "0e"),
    ],
)
def test_class_words_and_hexadecimal_numbers(value: str, code: str) -> None:
    assert class_code(value) == code


@pytest.mark.parametrize("value", ["", "keybord", "0x", "003", "0x003", "-3", "hid!", "ﬀ", "maſs-storage", "٣"])
def test_an_unknown_class_word_is_refused_and_the_known_ones_are_listed(value: str) -> None:
    with pytest.raises(InvalidName, match=r"one of per-interface, audio, .*hid, .*mass-storage"):
        class_code(value)


def test_every_class_word_and_trait_leads_back_to_its_code() -> None:
    for code, known in CLASSES.items():
        assert known.code == code
        assert class_code(known.word) == class_code(known.name) == class_code(code) == code
        trait = class_trait(code)
        assert trait is None or class_code(trait) == code


@pytest.mark.parametrize(
    ("code", "trait"),
    [
        ("03", "CUSTOM_USB_CLASS_HID"),
        ("08", "CUSTOM_USB_CLASS_MASS_STORAGE"),
        ("0b", "CUSTOM_USB_CLASS_SMART_CARD"),
        ("0B", "CUSTOM_USB_CLASS_SMART_CARD"),
        ("0e", "CUSTOM_USB_CLASS_VIDEO"),
        ("ff", "CUSTOM_USB_CLASS_VENDOR_SPECIFIC"),
        ("58", "CUSTOM_USB_CLASS_58"),
        ("4c", "CUSTOM_USB_CLASS_4C"),
        ("00", None),
    ],
)
def test_the_trait_of_a_class(code: str, trait: str | None) -> None:
    assert class_trait(code) == trait


@pytest.mark.parametrize("code", ["", "3", "003", "0x", "hid", "0b\n"])
def test_a_class_code_must_be_two_hexadecimal_digits(code: str) -> None:
    with pytest.raises(InvalidName, match="two hexadecimal digits"):
        class_trait(code)


def test_a_composite_device_has_one_trait_per_class_and_none_for_00() -> None:
    assert class_traits(["00", "03", "0b", "03"]) == {
        "CUSTOM_USB_CLASS_HID",
        "CUSTOM_USB_CLASS_SMART_CARD",
    }
    assert class_traits([]) == frozenset()


@pytest.mark.parametrize(
    ("triplet", "words"),
    [
        (("03", "01", "01"), "HID boot keyboard (03/01/01)"),
        (("03", "01", "02"), "HID boot mouse (03/01/02)"),
        (("08", "06", "50"), "mass storage, SCSI bulk-only (08/06/50)"),
        (("08", "06", "62"), "mass storage, SCSI UAS (08/06/62)"),
        (("08", "07", "01"), "mass storage (08/07/01)"),
        (("02", "02", "01"), "CDC ACM (serial port or modem) (02/02/01)"),
        (("0b", "00", "00"), "smart card reader (CCID) (0b/00/00)"),
        (("E0", "01", "01"), "Bluetooth (e0/01/01)"),
        (("0a", "00", "00"), "CDC data (0a/00/00)"),
        (("12", "00", "00"), "Type-C bridge (12/00/00)"),
        (("58", "42", "01"), "undefined class (58/42/01)"),
    ],
)
def test_an_interface_in_words(triplet: tuple[str, str, str], words: str) -> None:
    assert describe_interface(triplet) == words


def test_every_interface_that_we_name_belongs_to_a_defined_class() -> None:
    assert {base for base, _, _ in INTERFACES} <= set(CLASSES)


@given(st.tuples(codes, codes, codes))
def test_every_well_formed_interface_can_be_described(triplet: tuple[str, str, str]) -> None:
    assert describe_interface(triplet).endswith("({}/{}/{})".format(*triplet))


def test_a_malformed_interface_is_refused() -> None:
    with pytest.raises(InvalidName):
        describe_interface(("3", "00", "00"))


@pytest.mark.parametrize(
    "name",
    [
        *fixed_traits(),
        "CUSTOM_USB_VENDOR_1050",
        "CUSTOM_USB_SERIAL_A1",
        "CUSTOM_USB_STATE_TOMORROW",
    ],
)
def test_what_the_agent_writes_is_ours_to_remove(name: str) -> None:
    assert is_owned(name)


@pytest.mark.parametrize(
    "name",
    [
        *RESOURCE_CLASSES,
        "CUSTOM_USB_MYTHING",
        "CUSTOM_USB_MANAGED_BY_BOB",
        "CUSTOM_USB_SERIALS_A",
        "CUSTOM_USB_VENDOR_",
        "CUSTOM_SITE_A",
        "CUSTOM_MY_USB_VENDOR_1050",
        "COMPUTE_MANAGED_PCI_DEVICE",
        "",
    ],
)
def test_what_an_operator_added_is_not_ours(name: str) -> None:
    assert not is_owned(name)


@pytest.mark.parametrize(
    "name",
    [
        "CUSTOM_USB_MYTHING",
        "CUSTOM_USB_VENDOR_YUBICO",
        "CUSTOM_USB_VENDOR_096e",
        "CUSTOM_USB_PRODUCT_1050",
        "CUSTOM_USB_CLASS_00",
        "CUSTOM_USB_CLASS_03",
        "CUSTOM_USB_CLASS_PER_INTERFACE",
        "CUSTOM_USB_SPEED_UNKNOWN",
        "CUSTOM_USB_STATE_TOMORROW",
        "CUSTOM_USB_SERIAL_",
        "CUSTOM_USB_SERIAL_" + "A" * 300,
        "CUSTOM_USB_VENDOR_1050\n",
        "CUSTOM_USB",
        "VCPU",
        "",
    ],
)
def test_a_name_outside_the_vocabulary_has_no_description(name: str) -> None:
    assert describe(name) is None


def test_names_with_a_parameter_are_described_with_it() -> None:
    assert describe("CUSTOM_USB_VENDOR_1050") == "The device is of USB vendor 1050."
    assert describe("CUSTOM_USB_PRODUCT_096E_0807") == ("The device is product 0807 of USB vendor 096e.")
    assert "58" in (describe("CUSTOM_USB_CLASS_58") or "")
    assert "A1_2" in (describe("CUSTOM_USB_SERIAL_A1_2") or "")


@given(ids, ids, codes, serials)
def test_whatever_is_built_is_valid_ours_and_described(vendor: str, product: str, code: str, serial: str) -> None:
    built = [vendor_trait(vendor), product_trait(vendor, product), *class_traits([code])]
    if name := serial_trait(serial):
        built.append(name)
    for name in built:
        assert check_custom(name) == name
        assert normalise(name) == name
        assert is_owned(name)
        assert is_a_sentence(describe(name))


@pytest.mark.parametrize(
    ("text", "trait", "read"),
    [
        ("new firmware", "CUSTOM_USB_DRAIN_REASON_NEW_FIRMWARE", "new firmware"),
        ("Ticket #4711: socket loose!", "CUSTOM_USB_DRAIN_REASON_TICKET_4711_SOCKET_LOOSE", "ticket 4711 socket loose"),
    ],
)
def test_why_a_device_is_drained_is_kept_in_the_letters_of_a_trait(text: str, trait: str, read: str) -> None:
    assert drain_reason_trait(text) == check_custom(trait) == trait
    assert drain_reason({trait, MANAGED}) == read
    assert not is_owned(trait), "else the agent would remove it"
    assert read in (describe(trait) or "")


def test_without_a_trait_that_says_why_there_is_no_reason() -> None:
    assert drain_reason({MANAGED, "CUSTOM_USB_STATE_DRAINED"}) is None


@pytest.mark.parametrize("text", ["", "---", "неисправен", "x" * 300])
def test_a_reason_that_no_trait_can_hold_is_refused_instead_of_cut(text: str) -> None:
    with pytest.raises(InvalidName, match=r"^The reason .*\.$"):
        drain_reason_trait(text)
