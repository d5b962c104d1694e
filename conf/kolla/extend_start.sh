#!/bin/bash
# Kolla's start script sources this file after it has put the configuration in place and, in dev mode, installed the
# source. So the hook always has the version of the agent.

if [[ -d /etc/libvirt/hooks/qemu.d ]]; then
    usb-provider install-hook --directory /etc/libvirt/hooks/qemu.d
fi
