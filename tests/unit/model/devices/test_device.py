"""A device as udev and sysfs describe it, honest or not."""

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fixtures.builders import CCID, KEYBOARD, a_device
from tests.fixtures.hostile import HOSTILE, any_text
from usb_provider.model.devices.device import (
    HostUse,
    Speed,
    UnreadableDevice,
    UsbDevice,
    UseKind,
    parse_interfaces,
    port_path,
)

PATH = "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.4"
PROPERTIES = {
    "BUSNUM": "001",
    "DEVNUM": "010",
    "DEVTYPE": "usb_device",
    "ID_VENDOR_ID": "1050",
    "ID_MODEL_ID": "0407",
    "ID_USB_INTERFACES": ":030101:0b0000:",
}
ATTRIBUTES = {
    "idVendor": b"1050\n",
    "idProduct": b"0407\n",
    "busnum": b"1\n",
    "devnum": b"10\n",
    "bDeviceClass": b"00\n",
    "speed": b"12\n",
    "manufacturer": b"Yubico\n",
    "product": b"YubiKey OTP+FIDO+CCID\n",
    "authorized": b"1\n",
}

properties = st.dictionaries(
    st.sampled_from(sorted(PROPERTIES)), st.one_of(any_text, st.text("0123456789abcdef:", max_size=8))
)
attributes = st.dictionaries(
    st.sampled_from([*sorted(ATTRIBUTES), "serial"]),
    st.one_of(st.binary(max_size=300), st.text("0123456789abcdef\n", max_size=8).map(str.encode)),
)


def test_everything_that_the_kernel_says_is_read() -> None:
    device = UsbDevice.from_udev(PATH, PROPERTIES, ATTRIBUTES | {"serial": b"0012345678\n"}, [CCID])
    assert device == UsbDevice(
        sys_path=PATH,
        sys_name="1-2.4",
        vendor_id="1050",
        product_id="0407",
        busnum=1,
        devnum=10,
        serial="0012345678",
        manufacturer="Yubico",
        product="YubiKey OTP+FIDO+CCID",
        device_class="00",
        interfaces=(KEYBOARD, CCID),
        speed=Speed.FULL,
        port_path="2.4",
        controller="0000:00:14.0",
        controller_address="0000:00:14.0",
    )
    assert device.classes == ("00", "03", "0b")
    assert device.usb_id == "1050:0407"


def test_busnum_001_and_devnum_010_are_decimal_in_spite_of_their_zeros() -> None:
    device = UsbDevice.from_udev(PATH, PROPERTIES, {})
    assert (device.busnum, device.devnum) == (1, 10)
    device = UsbDevice.from_udev(PATH, PROPERTIES | {"BUSNUM": "008", "DEVNUM": "127"}, {})
    assert (device.busnum, device.devnum) == (8, 127)


@given(st.integers(0, 999))
def test_every_zero_padded_number_is_decimal(number: int) -> None:
    device = UsbDevice.from_udev(PATH, PROPERTIES | {"DEVNUM": f"{number:03}"}, {})
    assert device.devnum == number


@pytest.mark.parametrize("number", ["", "-1", "0x10", "1e3", "²", "۱", "1 2", "9" * 5000])
def test_a_number_that_is_none_is_unknown(number: str) -> None:
    assert UsbDevice.from_udev(PATH, PROPERTIES | {"BUSNUM": number}, {}).busnum is None


@given(any_text.map(lambda text: f"/sys/{text}"), properties, attributes)
@example(PATH, PROPERTIES | {"BUSNUM": "1" * 4301}, {})
@example(PATH, PROPERTIES, {"serial": b"\xff\xfe", "product": b"\x1b[31m"})
def test_nothing_but_unreadable_device_comes_of_whatever_a_device_says(
    sys_path: str, said: Mapping[str, str], shown: Mapping[str, bytes]
) -> None:
    with contextlib.suppress(UnreadableDevice):
        device = UsbDevice.from_udev(sys_path, said, shown)
        assert len(device.vendor_id) == len(device.product_id) == 4
        assert device.usb_id == device.usb_id.lower()
        assert all(len(code) == 2 for code in device.classes)
        assert device.busnum is None or device.busnum >= 0
        assert device.label.isprintable()
        assert len(device.label) <= 60


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_string_is_kept_and_its_label_is_safe(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    shown = dict.fromkeys(("serial", "manufacturer", "product"), raw)
    device = UsbDevice.from_udev(PATH, PROPERTIES, ATTRIBUTES | shown)
    assert device.label.isprintable()
    assert device.label


def test_sysfs_is_believed_before_udev_which_keeps_what_was_there_before() -> None:
    device = UsbDevice.from_udev(
        PATH, {"ID_VENDOR_ID": "dead", "ID_MODEL_ID": "beef", "DEVNUM": "009", "BUSNUM": "009"}, ATTRIBUTES
    )
    assert (device.usb_id, device.busnum, device.devnum) == ("1050:0407", 1, 10)


def test_a_device_that_left_while_it_was_read_is_unreadable() -> None:
    with pytest.raises(UnreadableDevice):
        UsbDevice.from_udev(PATH, {}, {})
    with pytest.raises(UnreadableDevice):
        UsbDevice.from_udev(PATH, {"ID_VENDOR_ID": "1050"}, {})
    with pytest.raises(UnreadableDevice):
        UsbDevice.from_udev(PATH, {"ID_VENDOR_ID": "1050", "ID_MODEL_ID": "zzzz"}, {"idProduct": b"12345"})


def test_ids_are_four_lower_case_digits() -> None:
    device = UsbDevice.from_udev(PATH, {"ID_VENDOR_ID": "5AC", "ID_MODEL_ID": "1A"}, {})
    assert device.usb_id == "05ac:001a"


def test_strings_that_a_device_does_not_have_are_none() -> None:
    device = UsbDevice.from_udev(PATH, PROPERTIES, ATTRIBUTES | {"serial": b"  \n", "product": b"\0"})
    assert device.serial is None
    assert device.product is None


def test_a_device_without_strings_is_called_by_its_ids() -> None:
    assert a_device().label == "1050:0407"
    assert a_device(product="Key").label == "Key"
    assert a_device(manufacturer="Yubico", product="Key").label == "Yubico Key"


@pytest.mark.parametrize(
    ("number", "speed"),
    [
        (b"1.5", Speed.LOW),
        (b"12", Speed.FULL),
        (b"480", Speed.HIGH),
        (b"5000", Speed.SUPER),
        (b"10000", Speed.SUPER_PLUS),
        (b"20000", Speed.SUPER_PLUS),
        (b"unknown", Speed.UNKNOWN),
        (b"53.3-480", Speed.UNKNOWN),
        (b"", Speed.UNKNOWN),
    ],
)
def test_speeds_are_those_of_sysfs(number: bytes, speed: Speed) -> None:
    assert UsbDevice.from_udev(PATH, PROPERTIES, {"speed": number}).speed is speed


@given(any_text)
def test_parts_that_are_no_interface_are_left_out(value: str) -> None:
    for triplet in parse_interfaces(value):
        assert all(len(code) == 2 and int(code, 16) >= 0 for code in triplet)


@given(st.lists(st.tuples(*[st.integers(0, 255).map("{:02x}".format)] * 3)))
def test_every_interface_in_id_usb_interfaces_is_read(triplets: list[tuple[str, str, str]]) -> None:
    value = ":" + "".join(f"{''.join(triplet)}:" for triplet in triplets)
    assert parse_interfaces(value) == tuple(triplets)
    assert parse_interfaces(value.upper()) == tuple(triplets)


def test_an_interface_that_both_sources_name_is_there_once() -> None:
    device = UsbDevice.from_udev(PATH, PROPERTIES, {}, [CCID, CCID, KEYBOARD])
    assert device.interfaces == (KEYBOARD, CCID)


@pytest.mark.parametrize(
    ("sys_name", "ports"), [("1-2", "2"), ("1-2.4.1", "2.4.1"), ("12-1.10", "1.10"), ("usb1", "0")]
)
def test_the_port_path_leaves_the_bus_out(sys_name: str, ports: str) -> None:
    assert port_path(sys_name) == ports


def test_a_hub_is_known_by_its_class_or_an_interface_and_a_root_hub_by_its_name() -> None:
    assert a_device(device_class="09").is_hub
    assert a_device(interfaces=(("09", "00", "01"),)).is_hub
    assert not a_device().is_hub
    root = a_device("usb1")
    assert root.is_root_hub
    assert root.is_hub
    assert not a_device("1-1").is_root_hub


def test_a_device_counts_as_authorised_unless_the_kernel_says_otherwise() -> None:
    assert UsbDevice.from_udev(PATH, PROPERTIES, {}).authorized
    assert UsbDevice.from_udev(PATH, PROPERTIES, {"authorized": b"1\n"}).authorized
    assert not UsbDevice.from_udev(PATH, PROPERTIES, {"authorized": b"0\n"}).authorized


def test_what_the_host_does_now_is_named_before_what_a_signature_says() -> None:
    signature = HostUse(UseKind.MEMBER, "sda1 is marked as LVM2_member")
    mount = HostUse(UseKind.MOUNTED, "sdz is mounted on /")
    assert UsbDevice.from_udev(PATH, PROPERTIES, {}, uses=[signature, mount]).uses == (mount, signature)
    assert mount.certain
    assert not signature.certain
