"""The class codes of the USB world, as tables.

This module's one job is to hold what the USB-IF defines, in our words.  It must not build or read
names: :mod:`placement_traits.usb` does.

Sources: the base classes and most triplets are those of the USB-IF "Defined Class Codes" page
(https://www.usb.org/defined-class-codes).  That page leaves some subclasses to the documents of
each class; those come from Linux ``include/uapi/linux/usb/cdc.h`` (CDC), from Linux
``drivers/usb/storage/uas.c`` (UAS) and from the class table of ``usb.ids``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

Triplet: TypeAlias = tuple[str, str, str]
"""(class, subclass, protocol) of an interface, each as two lower-case hexadecimal digits."""

TripletPattern: TypeAlias = tuple[str, str | None, str | None]
"""A triplet in which ``None`` stands for any subclass or protocol."""


@dataclass(frozen=True, slots=True)
class UsbClass:
    """One base class: its code ``"08"``, its name in a trait ``"MASS_STORAGE"``, and a sentence."""

    code: str
    name: str
    sentence: str

    @property
    def word(self) -> str:
        """The name as an operator types it: ``"mass-storage"``."""
        return self.name.lower().replace("_", "-")


PER_INTERFACE: Final = "00"

_CLASSES = (
    UsbClass(PER_INTERFACE, "PER_INTERFACE", "Each interface states its own class."),
    UsbClass("01", "AUDIO", "Sound cards, headsets, microphones and MIDI instruments."),
    UsbClass("02", "CDC_CONTROL", "The control side of serial ports, modems and network adapters."),
    UsbClass("03", "HID", "Keyboards, mice, and keys or dongles that speak the same protocol."),
    UsbClass("05", "PHYSICAL", "Devices that answer with force, such as some joysticks."),
    UsbClass("06", "IMAGE", "Still cameras, and telephones that serve their files (PTP, MTP)."),
    UsbClass("07", "PRINTER", "Printers."),
    UsbClass("08", "MASS_STORAGE", "Disks, sticks, card readers and optical drives."),
    UsbClass("09", "HUB", "Hubs, which are never offered to an instance."),
    UsbClass("0a", "CDC_DATA", "The data side of serial ports, modems and network adapters."),
    UsbClass("0b", "SMART_CARD", "Smart card readers, and tokens that contain such a card (CCID)."),
    UsbClass("0d", "CONTENT_SECURITY", "Control over the copying of protected content."),
    UsbClass("0e", "VIDEO", "Webcams and video grabbers (UVC)."),
    UsbClass("0f", "PERSONAL_HEALTHCARE", "Medical and fitness instruments."),
    UsbClass("10", "AUDIO_VIDEO", "Combined audio and video devices."),
    UsbClass("11", "BILLBOARD", "A Type-C device explaining why an alternate mode failed."),
    UsbClass("12", "TYPE_C_BRIDGE", "Bridges that manage a USB Type-C connection."),
    UsbClass("13", "BULK_DISPLAY", "Displays that take their picture over bulk transfers."),
    UsbClass("14", "MCTP", "Endpoints of the management transport MCTP."),
    UsbClass("3c", "I3C", "Adapters to an I3C bus."),
    UsbClass("dc", "DIAGNOSTIC", "Debugging, tracing and compliance devices."),
    UsbClass("e0", "WIRELESS_CONTROLLER", "Bluetooth and other radio adapters."),
    UsbClass("ef", "MISCELLANEOUS", "Composite devices, and functions with no class of their own."),
    UsbClass("fe", "APPLICATION_SPECIFIC", "Firmware update, infrared, and test instruments."),
    UsbClass("ff", "VENDOR_SPECIFIC", "Only the vendor's driver knows what the interface does."),
)

CLASSES: Final[Mapping[str, UsbClass]] = MappingProxyType({c.code: c for c in _CLASSES})
"""Every base class that the USB-IF defines, by its code."""

INTERFACES: Final[Mapping[TripletPattern, str]] = MappingProxyType(
    {
        ("01", "01", None): "audio control",
        ("01", "02", None): "audio streaming",
        ("01", "03", None): "MIDI streaming",
        ("02", "02", None): "CDC ACM (serial port or modem)",
        ("02", "02", "ff"): "RNDIS network adapter (older form)",
        ("02", "06", None): "CDC ECM network adapter",
        ("02", "08", None): "CDC wireless handset control",
        ("02", "09", None): "CDC device management",
        ("02", "0a", None): "CDC mobile direct line",
        ("02", "0b", None): "CDC OBEX",
        ("02", "0c", None): "CDC EEM network adapter",
        ("02", "0d", None): "CDC NCM network adapter",
        ("02", "0e", None): "CDC MBIM modem",
        ("03", "00", None): "HID",
        ("03", "01", "01"): "HID boot keyboard",
        ("03", "01", "02"): "HID boot mouse",
        ("06", "01", "01"): "still image (PTP or MTP)",
        ("07", "01", "01"): "printer, one-way",
        ("07", "01", "02"): "printer, two-way",
        ("07", "01", "03"): "printer, IEEE 1284.4",
        ("07", "01", "04"): "printer, IPP over USB",
        ("07", "01", "ff"): "printer, vendor specific",
        ("08", "02", None): "optical drive (ATAPI)",
        ("08", "04", None): "floppy drive (UFI)",
        ("08", "06", "50"): "mass storage, SCSI bulk-only",
        ("08", "06", "62"): "mass storage, SCSI UAS",
        ("09", "00", "00"): "full-speed hub",
        ("09", "00", "01"): "high-speed hub, one transaction translator",
        ("09", "00", "02"): "high-speed hub, a transaction translator per port",
        ("0b", "00", "00"): "smart card reader (CCID)",
        ("0e", "01", None): "video control (UVC)",
        ("0e", "02", None): "video streaming (UVC)",
        ("10", "01", None): "audio/video control",
        ("10", "02", None): "audio/video data, video",
        ("10", "03", None): "audio/video data, audio",
        ("dc", "01", "01"): "USB 2 compliance device",
        ("e0", "01", "01"): "Bluetooth",
        ("e0", "01", "02"): "ultra-wideband radio control",
        ("e0", "01", "03"): "RNDIS network adapter",
        ("e0", "01", "04"): "Bluetooth AMP",
        ("ef", "01", "01"): "ActiveSync",
        ("ef", "01", "02"): "Palm Sync",
        ("ef", "02", "01"): "interface association (composite device)",
        ("ef", "04", None): "RNDIS network adapter",
        ("ef", "04", "01"): "RNDIS network adapter, Ethernet",
        ("ef", "04", "02"): "RNDIS network adapter, Wi-Fi",
        ("ef", "04", "04"): "RNDIS network adapter, mobile broadband",
        ("ef", "05", "00"): "USB3 Vision camera, control",
        ("ef", "05", "01"): "USB3 Vision camera, events",
        ("ef", "05", "02"): "USB3 Vision camera, streaming",
        ("fe", "01", None): "firmware update (DFU)",
        ("fe", "02", None): "IrDA bridge",
        ("fe", "03", None): "test and measurement (USBTMC)",
        ("fe", "03", "01"): "test and measurement (USBTMC, USB488)",
    }
)
"""What an interface is, where its subclass or protocol matters."""
