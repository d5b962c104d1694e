"""The checks that "usb-provider doctor" makes."""

from usb_provider.diagnosis.agent_socket import SocketCheck
from usb_provider.diagnosis.authorization import AuthorizationCheck
from usb_provider.diagnosis.check import AnyCheck
from usb_provider.diagnosis.compute_node import ComputeNodeCheck, ComputeNodeNameCheck
from usb_provider.diagnosis.configuration import ConfigurationCheck, OptionsCheck
from usb_provider.diagnosis.controllers import HostControllersCheck
from usb_provider.diagnosis.dead_hostdevs import DeadHostdevsCheck
from usb_provider.diagnosis.disks import DisksCheck
from usb_provider.diagnosis.guests import ControllersCheck, StaleHostdevsCheck
from usb_provider.diagnosis.hook import HookCheck, HookLoadedCheck
from usb_provider.diagnosis.libvirt import LibvirtCheck
from usb_provider.diagnosis.placement import CredentialsCheck, MicroversionCheck, PlacementCheck, RoleCheck
from usb_provider.diagnosis.pools import PoolsCheck
from usb_provider.diagnosis.security import SecurityCheck
from usb_provider.diagnosis.served import RefusedStartsCheck, WaitingGuestsCheck
from usb_provider.diagnosis.udev import UdevCheck

CHECKS: tuple[AnyCheck, ...] = (
    ConfigurationCheck(),
    OptionsCheck(),
    PlacementCheck(),
    CredentialsCheck(),
    RoleCheck(),
    MicroversionCheck(),
    ComputeNodeCheck(),
    ComputeNodeNameCheck(),
    UdevCheck(),
    AuthorizationCheck(),
    HostControllersCheck(),
    DisksCheck(),
    PoolsCheck(),
    LibvirtCheck(),
    HookCheck(),
    HookLoadedCheck(),
    SocketCheck(),
    SecurityCheck(),
    ControllersCheck(),
    StaleHostdevsCheck(),
    DeadHostdevsCheck(),
    WaitingGuestsCheck(),
    RefusedStartsCheck(),
)
"""In the order in which an operator would repair things."""
