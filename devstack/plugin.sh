# shellcheck shell=bash
# DevStack sources this with a mode and, while stacking, a phase:
# https://docs.openstack.org/devstack/latest/plugins.html

# Save trace setting
_XTRACE_USB_PROVIDER=$(set +o | grep xtrace)
set +o xtrace

# The agent belongs beside nova-compute; other nodes only need its user.
function is_usb_provider_host {
    is_service_enabled n-cpu
}

# The command, with the plugin's own configuration, followed by what it shall do.
function usb_provider_command {
    echo "$(get_python_exec_prefix)/usb-provider --config-file $USB_PROVIDER_CONF --config-dir $USB_PROVIDER_CONF.d $*"
}

function install_usb_provider {
    # libvirt's Python is the distribution's, as for nova: DevStack's environment sees the system's packages.
    setup_develop "$USB_PROVIDER_DIR"
}

# Placement wants the role "service", which create_service_user gives, and nothing more.
function create_usb_provider_accounts {
    create_service_user usb-provider
}

function configure_usb_provider {
    sudo install -d -m 0750 -o "$STACK_USER" "$USB_PROVIDER_CONF_DIR" "$USB_PROVIDER_CONF.d" "$USB_PROVIDER_DATA_DIR"
    rm -f "$USB_PROVIDER_CONF" "$USB_PROVIDER_CONF.d/rules.conf"

    iniset "$USB_PROVIDER_CONF" DEFAULT debug "$ENABLE_DEBUG_LOG_LEVEL"
    setup_logging "$USB_PROVIDER_CONF"
    iniset "$USB_PROVIDER_CONF" agent state_dir "$USB_PROVIDER_DATA_DIR"
    iniset "$USB_PROVIDER_CONF" agent compute_id_file "$NOVA_STATE_PATH/compute_id"
    if [[ -n "${NOVA_CPU_UUID:-}" ]]; then
        # nova-compute takes this one, and writes no file below its state path.
        iniset "$USB_PROVIDER_CONF" agent root_provider_uuid "$NOVA_CPU_UUID"
    fi
    # Not below /run, where the user that DevStack runs services as may make no directory.
    iniset "$USB_PROVIDER_CONF" hook socket "$USB_PROVIDER_DATA_DIR/hook.sock"
    if [[ "$VIRT_DRIVER" != libvirt ]]; then
        iniset "$USB_PROVIDER_CONF" libvirt enabled False
    fi
    configure_keystoneauth "$USB_PROVIDER_CONF" usb-provider placement
    iniset "$USB_PROVIDER_CONF" placement region_name "$REGION_NAME"
    if is_service_enabled tls-proxy; then
        iniset "$USB_PROVIDER_CONF" placement cafile "$SSL_BUNDLE_FILE"
    fi

    # Not with iniset_multiline, which breaks values at spaces.
    local rule
    echo "[usb]" > "$USB_PROVIDER_CONF.d/rules.conf"
    while IFS= read -r rule; do
        if [[ -n "$rule" ]]; then
            echo "device_spec = $rule" >> "$USB_PROVIDER_CONF.d/rules.conf"
        fi
    done <<< "$USB_PROVIDER_DEVICE_SPEC"
}

# libvirt reads the list of hooks when it starts. nova-compute has not been started yet.
function install_usb_provider_hook {
    if [[ "$VIRT_DRIVER" == libvirt ]]; then
        # shellcheck disable=SC2046 # words are meant
        sudo $(usb_provider_command install-hook --directory "$USB_PROVIDER_HOOK_DIR")
        restart_service libvirtd
    fi
}

# As nova-compute: DevStack's user, in the group that may talk to libvirt. It opens no device node, so it is not root.
function start_usb_provider {
    run_process usb-provider-agent "$(usb_provider_command agent)" "${LIBVIRT_GROUP:-}"
}

function stop_usb_provider {
    stop_process usb-provider-agent
}

function cleanup_usb_provider {
    if [[ -e "$USB_PROVIDER_HOOK_DIR/usb-provider" ]]; then
        sudo rm -f "$USB_PROVIDER_HOOK_DIR/usb-provider"
        restart_service libvirtd
    fi
    sudo rm -rf "$USB_PROVIDER_CONF_DIR" "$USB_PROVIDER_DATA_DIR"
}

if is_service_enabled usb-provider-agent; then
    if [[ "$1" == "stack" && "$2" == "install" ]]; then
        echo_summary "Installing usb-provider"
        install_usb_provider

    elif [[ "$1" == "stack" && "$2" == "post-config" ]]; then
        echo_summary "Configuring usb-provider"
        if is_service_enabled keystone; then
            create_usb_provider_accounts
        fi
        if is_usb_provider_host; then
            configure_usb_provider
            install_usb_provider_hook
        fi

    elif [[ "$1" == "stack" && "$2" == "extra" ]]; then
        if is_usb_provider_host; then
            echo_summary "Starting usb-provider"
            start_usb_provider
        fi

    elif [[ "$1" == "unstack" ]]; then
        stop_usb_provider

    elif [[ "$1" == "clean" ]]; then
        cleanup_usb_provider
    fi
fi

# Restore xtrace
$_XTRACE_USB_PROVIDER
