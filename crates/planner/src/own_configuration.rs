//! What a person writes into the configuration of an operating system that lets nobody else set an option of a module.
//!
//! A system is a row, known by `ID` of its os-release. Whether it has a lever of ours is not known here.

/// What to put where, for ib_core's `netns_mode` of this value.
pub fn for_netns_mode(operating_system: &str, value: u8) -> String {
    let argument = format!("ib_core.netns_mode={value}");
    match operating_system {
        // Talos reads the first where it boots by GRUB, and only the second where it boots by systemd-boot, whose images
        // carry their command line; both count from the next upgrade on.
        "talos" => format!(
            "put `machine: {{install: {{extraKernelArgs: [{argument}]}}}}` into its machine configuration (where it boots by systemd-boot: `customization: {{extraKernelArgs: [{argument}]}}` into the schematic of its image) and upgrade the node with it"
        ),
        "bottlerocket" => format!(
            "put `settings.boot.kernel-parameters.\"ib_core.netns_mode\" = [\"{value}\"]` and `settings.boot.reboot-to-reconcile = true` into its user data, or give it the first with apiclient set and reboot the node"
        ),
        _ => format!("put {argument} into its own configuration"),
    }
}
