//! The kernel of the lab: its image unpacked, and the few modules that the cases need, with what they depend on.

use super::builder;
use super::packages::{KernelPackages, Packages, Track};
use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the cases load; `modules.dep` brings the rest.
const MODULES: [&str; 14] = [
    "igb",
    "igbvf",
    "vfio-pci",
    "vfio_iommu_type1",
    "nvme",
    "veth",
    "dummy",
    "8021q",
    "bonding",
    "rdma_rxe",
    "rdma_ucm",
    "ib_uverbs",
    "ib_umad",
    "mlx5_ib",
];
/// What a machine with a disk needs before it has its root.
pub const DISK: [&str; 3] = ["crc32c_generic", "virtio_blk", "ext4"];
/// Where kernels have it: older soft RDMA and older ext4 take their checksums from the crypto layer, by name and not by
/// symbol.
const OLDER: [&str; 2] = ["crc32_generic", "crc32c_generic"];

pub struct Kernel {
    pub version: String,
    /// The image that QEMU starts.
    pub image: PathBuf,
    /// A directory with `usr/lib/modules/<version>` in it.
    pub modules: PathBuf,
}

/// The kernel of a track, unpacked. The newest gets the soft drivers of the lab.
pub fn ready(packages: &Packages, track: Track, has_disk: bool) -> anyhow::Result<Kernel> {
    let (kernel, drivers) = match track {
        Track::Stable => (packages.kernel(track)?, Vec::new()),
        Track::Newest => with_drivers(packages, track)?,
    };
    let lab = super::directory();
    let version = kernel.version.clone();
    let image = lab.join(format!("vmlinux-{version}"));
    let (also, place): (&[&str], _) = match has_disk {
        true => (&DISK, format!("modules-disk-{version}")),
        false => (&[], format!("modules-{version}")),
    };
    let modules = lab.join(place);
    if !image.exists() {
        let places = [format!("boot/vmlinuz-{version}"), module_directory(&version) + "/vmlinuz"];
        let packed = places.iter().map(|place| kernel.directory.join(place));
        let packed = packed.into_iter().find(|path| path.exists());
        let packed = packed.with_context(|| format!("the packages of {version} hold no image"))?;
        super::write_whole(&image, &unpack_image(&packed)?)?;
    }
    // The list names what is in the directory; another list, another directory's content.
    let note = modules.join("list");
    let wanted: Vec<&str> = MODULES.iter().chain(also).copied().collect();
    let mut list = wanted.join(" ").into_bytes();
    for (_, driver) in &drivers {
        list.extend(std::fs::read(driver)?);
    }
    if std::fs::read(&note).ok().as_ref() != Some(&list) {
        collect_modules(packages, &kernel, &modules, &wanted, &drivers)?;
        super::write_whole(&note, &list)?;
    }
    Ok(Kernel { version, image, modules })
}

/// A kernel and the soft drivers that are built for it. A kernel that was fetched long ago is left for today's when
/// drivers are to be built for it and the mirror has its headers no more.
fn with_drivers(
    packages: &Packages,
    track: Track,
) -> anyhow::Result<(KernelPackages, Vec<(&'static str, PathBuf)>)> {
    let kernel = packages.kernel(track)?;
    if let Some(drivers) = builder::built(&kernel) {
        return Ok((kernel, drivers));
    }
    let kernel = match packages.has_headers(&kernel.version)? {
        true => kernel,
        false => {
            packages.forget_kernel(track)?;
            packages.kernel(track)?
        }
    };
    let drivers = builder::build(packages, &kernel)?;
    Ok((kernel, drivers))
}

fn module_directory(version: &str) -> String {
    format!("usr/lib/modules/{version}")
}

/// The ELF image inside a bzImage: unpacking it here saves the emulated processor several seconds at each boot.
/// Offsets: Linux, Documentation/arch/x86/boot.rst (setup_sects, payload_offset, payload_length).
fn unpack_image(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let word = |offset: usize| {
        let found = bytes.get(offset..).and_then(<[u8]>::first_chunk::<4>);
        found
            .map(|found| u32::from_le_bytes(*found) as usize)
            .context("the kernel image is too short")
    };
    if bytes.get(0x202..0x206) != Some(b"HdrS") {
        bail!("{} is no bzImage", path.display());
    }
    let sectors = match bytes[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    let payload =
        bytes.get(start..start + word(0x24c)?).context("the kernel image is cut short")?;
    // The last four bytes are the unpacked size, which is no part of the packed stream.
    let payload = &payload[..payload.len().saturating_sub(4)];
    let program = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', ..] => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        _ => bail!("{} is packed in a way that the lab does not know", path.display()),
    };
    let image = filter(program, payload)?;
    if !image.starts_with(b"\x7fELF") {
        bail!("{} holds no ELF image", path.display());
    }
    Ok(image)
}

/// `program -dc` over bytes.
fn filter(program: &str, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(["-dcq"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let mut stdin = child.stdin.take().context("a pipe to the program")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut stdin, input));
        child.wait_with_output()
    })?;
    // The tools complain about what follows the stream; what counts is what they wrote.
    if output.stdout.is_empty() {
        bail!("{program} unpacked nothing")
    }
    Ok(output.stdout)
}

fn collect_modules(
    packages: &Packages,
    kernel: &KernelPackages,
    place: &Path,
    names: &[&str],
    drivers: &[(&str, PathBuf)],
) -> anyhow::Result<()> {
    let version = &kernel.version;
    let source = kernel.directory.join(module_directory(version));
    // What lies there comes before what lies elsewhere (depmod.d(5), search).
    let updates = source.join("updates");
    std::fs::create_dir_all(&updates)?;
    for (name, driver) in drivers {
        std::fs::copy(driver, updates.join(format!("{name}.ko")))?;
    }
    link_lib(&kernel.directory)?;
    depmod(packages, &kernel.directory, version)?;
    let index =
        std::fs::read_to_string(source.join("modules.dep")).context("depmod made no index")?;
    let names = names.iter().copied().chain(drivers.iter().map(|(name, _)| *name));
    let wanted = closure(&index, names)?;
    if place.exists() {
        std::fs::remove_dir_all(place)?;
    }
    let target = place.join(module_directory(version));
    for file in &wanted {
        let packed = std::fs::read(source.join(file))?;
        let (name, content) = match file.strip_suffix(".xz") {
            Some(plain) => (plain, filter("xz", &packed)?),
            None => (file.as_str(), packed),
        };
        let to = target.join(name);
        std::fs::create_dir_all(to.parent().context("a module lies in a directory")?)?;
        std::fs::write(to, &content)?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        std::fs::copy(source.join(name), target.join(name))?;
    }
    link_lib(place)?;
    depmod(packages, place, version)
}

impl Kernel {
    /// The files of the modules that a machine with a disk needs before it has its root, each after what it needs.
    pub fn for_its_disk(&self) -> anyhow::Result<Vec<PathBuf>> {
        let directory = self.modules.join(module_directory(&self.version));
        let index = std::fs::read_to_string(directory.join("modules.dep"))?;
        let index = Index::parse(&index);
        let mut files: Vec<&str> = Vec::new();
        for module in DISK {
            let Some((file, needs)) = index.find(module) else { continue };
            // depmod names the nearest first.
            for file in needs.iter().rev().copied().chain([file]) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files.into_iter().map(|file| directory.join(file)).collect())
    }
}

/// `modules.dep`: each module's file, and those of all that it needs.
struct Index<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Index<'a> {
    fn parse(text: &'a str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(file, needs)| (file, needs.split_whitespace().collect())).collect())
    }

    fn find(&self, module: &str) -> Option<(&'a str, &[&'a str])> {
        let name = |file: &str| {
            let last = file.rsplit('/').next().unwrap_or(file);
            last.split(".ko").next().unwrap_or(last).replace('-', "_")
        };
        let plain = module.replace('-', "_");
        let mut files = self.0.iter();
        files.find_map(|(file, needs)| (name(file) == plain).then_some((*file, needs.as_slice())))
    }
}

/// The files of the wanted modules and of all that they need.
fn closure<'a>(
    index: &str,
    names: impl Iterator<Item = &'a str>,
) -> anyhow::Result<BTreeSet<String>> {
    let index = Index::parse(index);
    let mut wanted = BTreeSet::new();
    for module in names.chain(OLDER) {
        let Some((file, needs)) = index.find(module) else {
            if OLDER.contains(&module) {
                continue;
            }
            bail!("the kernel has no module {module}")
        };
        wanted.insert(file.to_owned());
        wanted.extend(needs.iter().map(|need| (*need).to_owned()));
    }
    Ok(wanted)
}

/// depmod looks in `lib/modules`, the packages put it into `usr/lib/modules`.
fn link_lib(base: &Path) -> anyhow::Result<()> {
    let link = base.join("lib");
    if link.symlink_metadata().is_err() {
        std::os::unix::fs::symlink("usr/lib", link)?;
    }
    Ok(())
}

fn depmod(packages: &Packages, base: &Path, version: &str) -> anyhow::Result<()> {
    let mut depmod = packages.program("depmod", "usr/bin/kmod");
    let status = depmod.arg("-b").arg(base).arg(version).status()?;
    if status.success() { Ok(()) } else { bail!("depmod failed in {}", base.display()) }
}
