"""A USB device described in words, as ``umockdev-record`` would have written it on a real host.

Pure. For hubs and controllers that a recording implies, and for tests.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from usb_provider.demo.recording import USB_MAJOR, bus_and_port, controller_of, id_path_tag, parse, relinked


def usb_device(
    vendor_id: str = "1d6b",
    product_id: str = "0104",
    *,
    serial: str | bytes | None = None,
    manufacturer: str | bytes | None = None,
    product: str | bytes | None = None,
    bus: int = 1,
    port: str = "1",
    devnum: int | None = None,
    speed: str = "480",
    interfaces: Sequence[tuple[str, str, str]] = (("ff", "00", "00"),),
    device_class: str = "00",
    configuration: str = "1",
    bcd_device: str = "0100",
    controller: str = "0000:00:14.0",
    block: str | None = None,
    filesystem: str | None = None,
    holder: str | None = None,
    net: str | None = None,
    keyboard: bool = False,
) -> str:
    """The description of a USB device for :meth:`Testbed.add`, with the properties that udev would
    give it.

    :param port: the ports from the root hub, ``1`` or ``2.4``. Hubs on the way are made up when it
        is added.
    :param devnum: by default a number made of *port*.
    :param interfaces: class, subclass and protocol of each, two hexadecimal digits each.
    :param configuration: its bConfigurationValue; one without any has an empty one, and no interfaces.
    :param block: a disk, ``sdx``, or a disk with a partition, ``sdx1``; as all child nodes it is
        below the first interface of its class, or else below the first one.
    :param filesystem: ID_FS_TYPE of that disk or partition, such as ``ext4`` or ``LVM2_member``.
    :param holder: a device-mapper or RAID device on top of it, such as ``dm-3``.
    :param net: a network interface of this name.
    :param keyboard: a HID interface that udev takes for a keyboard.
    """
    number = devnum if devnum is not None else 10 + int(port.replace(".", "")) % 110
    name = f"{bus}-{port}"
    ports = port.split(".")
    hubs = [f"{bus}-{'.'.join(ports[:depth])}" for depth in range(1, len(ports) + 1)]
    path = "/".join([f"/devices/pci{controller[:7]}/{controller}/usb{bus}", *hubs])
    strings = {"manufacturer": manufacturer, "product": product, "serial": serial}
    kinds = list(dict.fromkeys("".join(interface) for interface in interfaces))
    release = f"{int(vendor_id, 16):x}/{int(product_id, 16):x}/{int(bcd_device, 16):x}"
    identity = _usb_id(vendor_id, product_id, bcd_device, strings) | {"ID_USB_INTERFACES": f":{':'.join(kinds)}:"}
    id_path = f"pci-{controller}-usb-0:{port}"
    minor = (bus - 1) * 128 + number - 1
    device = _node(
        path,
        {
            "BUSNUM": f"{bus:03}",
            "DEVNAME": f"/dev/bus/usb/{bus:03}/{number:03}",
            "DEVNUM": f"{number:03}",
            "DEVTYPE": "usb_device",
            "DRIVER": "usb",
            "ID_BUS": "usb",
            **identity,
            "ID_PATH": id_path,
            "ID_PATH_TAG": id_path_tag(id_path),
            "MAJOR": str(USB_MAJOR),
            "MINOR": str(minor),
            "PRODUCT": release,
            "SUBSYSTEM": "usb",
            "TYPE": f"{int(device_class, 16)}/0/0",
        },
        {
            "authorized": "1",
            "bConfigurationValue": configuration,
            "bDeviceClass": device_class,
            "bDeviceProtocol": "00",
            "bDeviceSubClass": "00",
            "bMaxPower": "100mA",
            "bNumConfigurations": "1",
            "bNumInterfaces": f"{len(interfaces):2}",
            "bcdDevice": bcd_device,
            "busnum": str(bus),
            "dev": f"{USB_MAJOR}:{minor}",
            "devnum": str(number),
            "devpath": port,
            "idProduct": product_id,
            "idVendor": vendor_id,
            "removable": "removable",
            "speed": speed,
            **{key: value for key, value in strings.items() if value is not None},
        },
        driver="bus/usb/drivers/usb",
        device_node=f"bus/usb/{bus:03}/{number:03}",
    )
    texts = [device]
    for index, (kind, subclass, protocol) in enumerate(interfaces):
        driver = {"03": "usbhid", "08": "usb-storage", "09": "hub"}.get(kind)
        texts.append(
            _node(
                f"{path}/{name}:1.{index}",
                {
                    "DEVTYPE": "usb_interface",
                    **({"DRIVER": driver} if driver else {}),
                    "ID_PATH": f"{id_path}:1.{index}",
                    "ID_PATH_TAG": id_path_tag(f"{id_path}:1.{index}"),
                    "INTERFACE": f"{int(kind, 16)}/{int(subclass, 16)}/{int(protocol, 16)}",
                    "PRODUCT": release,
                    "SUBSYSTEM": "usb",
                    "TYPE": f"{int(device_class, 16)}/0/0",
                },
                {
                    "authorized": "1",
                    "bAlternateSetting": " 0",
                    "bInterfaceClass": kind,
                    "bInterfaceNumber": f"{index:02x}",
                    "bInterfaceProtocol": protocol,
                    "bInterfaceSubClass": subclass,
                },
                driver=f"bus/usb/drivers/{driver}" if driver else None,
            )
        )
    inherited = {"ID_BUS": "usb", **identity, "ID_PATH": id_path}
    unique = bus * 128 + number

    def below(kind: str) -> str:
        """The first interface of this class, or the first one."""
        classes = [interface[0] for interface in interfaces]
        return f"{path}/{name}:1.{classes.index(kind) if kind in classes else 0}"

    if block is not None:
        texts += _disk(below("08"), block, filesystem=filesystem, holder=holder, inherited=inherited, unique=unique)
    if net is not None:
        texts.append(
            _node(
                f"{below('02')}/net/{net}",
                {**inherited, "IFINDEX": str(unique), "INTERFACE": net, "SUBSYSTEM": "net"},
                {
                    "address": f"02:00:00:00:{unique // 256:02x}:{unique % 256:02x}",
                    "ifindex": str(unique),
                },
            )
        )
    if keyboard:
        texts += _keyboard(below("03"), vendor_id, product_id, inherited, unique)
    return "".join(texts)


def _disk(
    parent: str,
    block: str,
    *,
    filesystem: str | None,
    holder: str | None,
    inherited: Mapping[str, str],
    unique: int,
) -> Iterator[str]:
    """The SCSI device, the disk and maybe a partition of a USB disk."""
    disk = block.rstrip("0123456789")
    scsi = f"{parent}/host{unique}/target{unique}:0:0/{unique}:0:0:0"
    yield _node(
        scsi,
        {"DEVTYPE": "scsi_device", "DRIVER": "sd", "MODALIAS": "scsi:t-0x00", "SUBSYSTEM": "scsi"},
        {"type": "0"},
        driver="bus/scsi/drivers/sd",
    )
    names = [disk] if block == disk else [disk, block]
    for index, name in enumerate(names):
        path = f"{scsi}/block/{'/'.join(names[: index + 1])}"
        last = name == names[-1]
        link = f"holders/{holder}"
        usage = "raid" if (filesystem or "").endswith("_member") else "filesystem"
        yield _node(
            path,
            {
                "DEVNAME": f"/dev/{name}",
                "DEVTYPE": "partition" if index else "disk",
                **inherited,
                **({"ID_FS_TYPE": filesystem, "ID_FS_USAGE": usage} if filesystem and last else {}),
                "MAJOR": "259",
                "MINOR": str(unique * 16 + index),
                "SUBSYSTEM": "block",
            },
            {
                "dev": f"259:{unique * 16 + index}",
                "removable": "1",
                "size": "8388608",
                **({"partition": str(index)} if index else {}),
            },
            links={link: f"{_to_root(path)}../devices/virtual/block/{holder}"} if last and holder else {},
            device_node=name,
        )


def _keyboard(parent: str, vendor_id: str, product_id: str, inherited: Mapping[str, str], unique: int) -> Iterator[str]:
    """The HID, input and event devices of a keyboard."""
    hid = f"{parent}/0003:{vendor_id.upper()}:{product_id.upper()}.{unique:04X}"
    kind = {"ID_INPUT": "1", "ID_INPUT_KEY": "1", "ID_INPUT_KEYBOARD": "1"}
    yield _node(
        hid,
        {
            "DRIVER": "hid-generic",
            "HID_ID": f"0003:{int(vendor_id, 16):08X}:{int(product_id, 16):08X}",
            "SUBSYSTEM": "hid",
        },
        {},
        driver="bus/hid/drivers/hid-generic",
    )
    yield _node(f"{hid}/input/input{unique}", {**inherited, **kind, "SUBSYSTEM": "input"}, {})
    yield _node(
        f"{hid}/input/input{unique}/event{unique}",
        {
            "DEVNAME": f"/dev/input/event{unique}",
            **inherited,
            **kind,
            "MAJOR": "13",
            "MINOR": str(64 + unique),
            "SUBSYSTEM": "input",
        },
        {"dev": f"13:{64 + unique}"},
        device_node=f"input/event{unique}",
    )


def implied(path: str) -> str | None:
    """What the last step of *path* must be, as something hangs on it: PCI device or hub."""
    name = PurePosixPath(path).name
    if re.fullmatch(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", name):
        properties = {
            "DRIVER": "xhci_hcd",
            "PCI_CLASS": "C0330",
            "PCI_SLOT_NAME": name,
            "SUBSYSTEM": "pci",
        }
        return _node(path, properties, {"class": "0x0c0330"}, driver="bus/pci/drivers/xhci_hcd")
    root = re.fullmatch(r"usb(\d+)", name)
    if not root and not re.fullmatch(r"\d+-[\d.]+", name):
        return None
    bus, port = bus_and_port(path)
    controller = controller_of(path)
    hub = usb_device(
        "1d6b" if root else "05e3",
        "0002" if root else "0610",
        product="xHCI Host Controller" if root else "USB2.1 Hub",
        serial=controller if root else None,
        bus=bus,
        port=port,
        devnum=1 if root else 90 + int(port.replace(".", "")) % 30,
        interfaces=(("09", "00", "00"),),
        device_class="09",
        controller=controller,
    )
    device, interface = parse(hub)
    below = f"{path}/{PurePosixPath(interface.path).name}"
    lines = [f"P: {path}", *device.lines[1:], "", f"P: {below}", *interface.lines[1:], ""]
    deeper = path.count("/") - device.path.count("/")
    text = "".join(f"{relinked(line, deeper)}\n" for line in lines)
    if root:  # has no port of its own
        for old, new in ((f"pci-{controller}-usb-0:0", f"pci-{controller}"), ("-usb-0_0", "")):
            text = text.replace(old, new)
    return text


def _node(
    path: str,
    properties: Mapping[str, str],
    attributes: Mapping[str, str | bytes],
    *,
    driver: str | None = None,
    links: Mapping[str, str] | None = None,
    device_node: str | None = None,
) -> str:
    """One paragraph, its lines in the order of ``umockdev-record``."""
    lines = [f"P: {path}"]
    if device_node is not None:
        lines.append(f"N: {device_node}")
    lines += [f"E: {key}={value}" for key, value in sorted(properties.items())]
    lines += [attribute_line(key, value) for key, value in sorted(attributes.items())]
    if driver is not None:
        lines.append(f"L: driver={_to_root(path)}{driver}")
    lines += [f"L: {key}={value}" for key, value in (links or {}).items()]
    return "".join(f"{line}\n" for line in lines) + "\n"


def _to_root(path: str) -> str:
    """The way from a node up to ``/sys/``."""
    return "../" * path.count("/")


def attribute_line(name: str, value: str | bytes) -> str:
    """The ``A:`` line of a sysfs file with *value* and a line feed, or ``H:`` if it is no text."""
    content = (value.encode("utf-8", errors="surrogateescape") if isinstance(value, str) else value) + b"\n"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return f"H: {name}={content.hex().upper()}"
    if b"\0" in content:
        return f"H: {name}={content.hex().upper()}"
    short = {8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    escaped = (short.get(c) or (chr(c) if 0x20 <= c < 0x7F else f"\\{c:03o}") for c in content)
    return f"A: {name}={''.join(escaped)}"


def _usb_id(
    vendor_id: str, product_id: str, bcd_device: str, strings: Mapping[str, str | bytes | None]
) -> dict[str, str]:
    """The ID_* that udev's ``usb_id`` makes of the descriptors."""
    raw = {
        key: value.encode("utf-8", errors="surrogateescape") if isinstance(value, str) else value
        for key, value in strings.items()
        if value is not None
    }
    vendor = raw.get("manufacturer", vendor_id.encode())
    model = raw.get("product", product_id.encode())
    serial = raw.get("serial")
    if serial is not None and any(c < 0x20 or c > 0x7F or c == ord(",") for c in serial):
        serial = None
    short = udev_name(serial) if serial else ""
    return {
        "ID_MODEL": udev_name(model),
        "ID_MODEL_ENC": udev_encode(model),
        "ID_MODEL_ID": product_id,
        "ID_REVISION": bcd_device,
        "ID_SERIAL": "_".join(filter(None, (udev_name(vendor), udev_name(model), short))),
        **({"ID_SERIAL_SHORT": short} if short else {}),
        "ID_VENDOR": udev_name(vendor),
        "ID_VENDOR_ENC": udev_encode(vendor),
        "ID_VENDOR_ID": vendor_id,
    }


def udev_name(value: bytes) -> str:
    """As udev writes a string into ID_MODEL and the like: blanks and what is odd become ``_``."""
    text = b"_".join(value.split(b"\0")[0].split())[:63].decode("utf-8", errors="replace")
    return re.sub(r"[^A-Za-z0-9#+\-.:=@_\x80-\U0010ffff]|\ufffd", "_", text)


def udev_encode(value: bytes) -> str:
    """As udev writes a string into ID_MODEL_ENC and the like: what is odd becomes ``\\x20``."""
    text = value.split(b"\0")[0].decode("utf-8", errors="surrogateescape")
    odd = r"[^A-Za-z0-9#+\-.:=@_\x80-\U0010ffff]|[\udc80-\udcff]"
    return re.sub(odd, lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", text)
