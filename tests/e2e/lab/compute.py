"""The compute node: the virtual test host with nova-compute, the hook and the agent, installed as on any other."""

from pathlib import Path

from tests.e2e.lab.controller import Config, config_text, credentials, transport
from tests.integration.lab import domains
from tests.integration.lab.agent import Agent
from tests.integration.lab.vm import LAN, LOOPBACK, Vm, host_name

HOST = host_name(1)
"""The one that is always there."""

NOVA: Config = {
    "DEFAULT": {
        "state_path": "/var/lib/nova",
        "transport_url": transport("", LOOPBACK),
        "compute_driver": "libvirt.LibvirtDriver",
        "concurrency_backend": "threading",
        "resume_guests_state_on_host_boot": "true",
        "allow_resize_to_same_host": "true",
        "force_config_drive": "false",
        "use_cow_images": "false",
        "vif_plugging_is_fatal": "false",
        "vif_plugging_timeout": 0,
        "report_interval": 5,
        "update_resources_interval": 30,
        "shutdown_timeout": 20,
    },
    "service_user": {"send_service_user_token": "true", **credentials("nova", address=LOOPBACK)},
    "placement": credentials("nova", address=LOOPBACK),
    "glance": credentials("nova", address=LOOPBACK),
    "neutron": credentials("nova", address=LOOPBACK),
    "cinder": credentials("nova", address=LOOPBACK),
    "keystone": credentials("nova", address=LOOPBACK),
    "libvirt": {
        "virt_type": "kvm",
        "cpu_mode": "none",
        "images_type": "raw",
        "hw_machine_type": "x86_64=pc",
        "wait_soft_reboot_seconds": 60,
        "live_migration_scheme": "tcp",
    },
    # libvirt compares them itself when it migrates; nova's comparison does not know the processor that QEMU emulates.
    "workarounds": {"skip_cpu_compare_on_dest": "true"},
    "vnc": {"enabled": "true", "server_listen": "127.0.0.1", "server_proxyclient_address": "127.0.0.1"},
    "nova_sys_admin": {
        "helper_command": "sudo /opt/nova/bin/privsep-helper --config-file /etc/nova/nova.conf",
    },
    "os_vif_ovs": {"ovsdb_connection": "tcp:127.0.0.1:1"},
    "oslo_concurrency": {"lock_path": "/var/lib/nova/lock"},
}
RULES = """\
[usb]
device_spec = {"vendor_id": "46f4", "product_id": "0001", "resource_class": "CUSTOM_USB_KEY"}
device_spec = {"vendor_id": "08e6", "product_id": "4433", "resource_class": "CUSTOM_USB_KEY"}
"""


_NOVA_SSH = "/var/lib/nova/.ssh"


class Compute:
    """One compute node.

    :ivar vm: the machine; what is plugged into it is plugged into the compute node.
    """

    def __init__(self, vm: Vm) -> None:
        self.vm = vm

    @property
    def name(self) -> str:
        """What nova calls it."""
        return self.vm.name

    def prepare(self, wheel: Path) -> None:
        """Install the agent, its hook and nova's configuration; the control plane need not be there yet."""
        Agent.install(self.vm, wheel)
        self.configure()
        self.vm.ssh("usb-provider install-hook")
        self.vm.join_lan()  # libvirtd restarts, and finds the hook
        self.vm.put(config_text(self.nova_config()), "/etc/nova/nova.conf", 0o640)
        self._trust_each_other()
        self.vm.ssh("chgrp nova /etc/nova/nova.conf && systemctl enable --quiet nova-compute && sync", timeout=300)

    def start_services(self) -> None:
        """Start nova-compute and the agent, in no particular order."""
        self.vm.ssh("systemctl start nova-compute && systemctl start usb-provider-agent && sync", timeout=300)

    def configure(self, rules: str = RULES) -> None:
        """Write the agent's configuration; a running agent has it when it is reloaded."""
        where = "/etc/usb-provider/usb-provider.conf"
        self.vm.put(rules + config_text(self.agent_config()), where, 0o640)
        self.vm.ssh(f"chgrp usb-provider {where}")

    def nova_config(self) -> Config:
        """What nova-compute reads: the same on every host but for its name and address."""
        address = LAN[self.vm.number]
        return {
            **NOVA,
            "DEFAULT": {**NOVA["DEFAULT"], "host": self.name, "my_ip": address},
            "libvirt": {**NOVA["libvirt"], "live_migration_inbound_addr": address},
        }

    def _trust_each_other(self) -> None:
        """Let nova's user come in from other compute nodes: it copies disks by ssh when it migrates cold."""
        self.vm.put(self.vm.image.directory / "id_ed25519", f"{_NOVA_SSH}/id_ed25519", 0o600)
        self.vm.put(
            "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n", f"{_NOVA_SSH}/config", 0o600
        )
        self.vm.ssh(
            f"cp /root/.ssh/authorized_keys {_NOVA_SSH} && chown -R nova: {_NOVA_SSH} && chmod 700 {_NOVA_SSH} && "
            "usermod --shell /bin/sh --password '*' nova"  # without a password it is locked, and let in by no key
        )

    @staticmethod
    def agent_config() -> Config:
        """The agent's options, without its rules."""
        return {
            "DEFAULT": {"debug": "true"},
            "agent": {"resync_interval": 20},
            # Emulation is slow, and Placement shares two processors with it.
            "hook": {"timeout": 30},
            "placement": credentials("usb-provider", address=LOOPBACK),
        }

    def virsh(self, *words: str) -> str:
        """Give what virsh prints."""
        return domains.virsh(self.vm, *words)

    def serials(self, server: str) -> list[str]:
        """Serials of the devices that the guest of *server* really has: in the live XML by our alias, and alive."""
        serials = {(device.bus, device.device): device.serial for device in domains.host_devices(self.vm)}
        found = []
        for hostdev in domains.hostdevs(self.vm, server):
            alias = hostdev.alias or ""
            serial = serials.get((hostdev.bus or 0, hostdev.device or 0))
            if alias.startswith("ua-usb-") and serial and domains.qom_attached(self.vm, server, alias):
                found.append(serial)
        return sorted(found)
