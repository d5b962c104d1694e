#!/bin/bash
# Kolla's start script sources this when the configuration is in place and, in dev mode, the source is installed. So the
# hook is always of the same version as the agent.

if [[ -d /etc/libvirt/hooks/qemu.d ]]; then
    usb-provider install-hook --directory /etc/libvirt/hooks/qemu.d
fi
