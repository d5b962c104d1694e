#!/bin/bash
# Kolla's start script sources this file after it has put the configuration in place and, in dev mode, installed the
# source. So the hook always has the version of the agent.

# For log_dir = /var/log/kolla/usb-provider; as the directories of Kolla's other services, which fluentd reads.
mkdir -p /var/log/kolla/usb-provider
chmod 755 /var/log/kolla/usb-provider

if [[ -d /etc/libvirt/hooks/qemu.d ]]; then
    usb-provider install-hook --directory /etc/libvirt/hooks/qemu.d
fi
