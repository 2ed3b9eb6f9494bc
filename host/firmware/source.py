"""Leaves MicroPython's source tree in build/micropython/src, ready for the RP2040's firmware, for QEMU's and for native
modules. It comes from Debian's packages, through the mirror that this machine's apt uses already; the machine's own
package sources are not touched and nothing is installed. Runs on Debian 12 and 13, with or without root.

    python host/firmware/source.py                 # from Debian's packages
    python host/firmware/source.py --tree PATH     # a checkout of MicroPython that is already here

Debian's `micropython` source leaves out pico-sdk, tinyusb and mbedtls, which are packages of their own: they are linked in.
Depends on apt-get and dpkg-source (package dpkg-dev).
"""

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path

from common import BUILD, SOURCE, Trouble, missing_tools, report, run, shown, step

# Debian 13: MicroPython 1.25 with a pico-sdk (2.1) that fits it. Debian 12's is 1.19, older than the runtime needs;
# sid's pico-sdk 2.2 does not fit.
SUITE = "trixie"
SOURCES = ["micropython", "mbedtls"]
PACKAGES = ["pico-sdk-source", "tinyusb-source"]
KEYRINGS = [
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
]
FOLDER = SOURCE.parent
OTHERWISE = (
    "or take any checkout of MicroPython 1.24 or newer with its submodules ('make -C ports/rp2 submodules' in it) "
    "and name it: .venv/bin/python host/firmware/source.py --tree PATH"
)
NEEDED = ["py/dynruntime.mk", "tools/mpy_ld.py", "ports/rp2/CMakeLists.txt", "mpy-cross/Makefile"]
LINKED = ["lib/pico-sdk/pico_sdk_init.cmake", "lib/tinyusb/src/tusb.h", "lib/mbedtls/library"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Leaves MicroPython's source tree in build/micropython/src.")
    parser.add_argument("--tree", type=Path, help="a checkout of MicroPython with its submodules, to be used as it is")
    parser.add_argument("--suite", default=SUITE, help=f"suite of Debian to take the packages from [default: {SUITE}]")
    options = parser.parse_args()
    if options.tree:
        adopt(options.tree.expanduser().resolve())
    elif SOURCE.is_symlink() and not lacking(SOURCE):
        step(f"MicroPython's source: {SOURCE.resolve()}, as named before (remove {shown(SOURCE)} to fetch Debian's)")
    elif lacking(SOURCE):
        fetch(options.suite)
    step(f"MicroPython {version(SOURCE)} is in {shown(SOURCE)}")


def lacking(tree: Path) -> list[str]:
    """What a tree must have and has not."""
    return [path for path in [*NEEDED, *LINKED] if not (tree / path).exists()]


def version(tree: Path) -> str:
    text = (tree / "py/mpconfig.h").read_text()
    numbers = [re.search(rf"define MICROPY_VERSION_{part} +(\d+)", text) for part in ("MAJOR", "MINOR", "MICRO")]
    return ".".join(found[1] for found in numbers if found)


def adopt(tree: Path) -> None:
    """Takes a tree that is here already."""
    missing = lacking(tree)
    if missing:
        raise Trouble(
            f"{tree} lacks {len(missing)} of {len(NEEDED) + len(LINKED)} files ({', '.join(missing)}): name a checkout of "
            "MicroPython, and run 'make -C ports/rp2 submodules' in it first"
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    if SOURCE.is_symlink():
        SOURCE.unlink()
    elif SOURCE.exists():
        raise Trouble(f"{shown(SOURCE)} holds Debian's sources: remove that folder first, then name your tree again")
    SOURCE.symlink_to(tree)


def fetch(suite: str) -> None:
    """Debian's packages, unpacked and linked into one tree. Each stage is kept: a run that was cut goes on from there."""
    if SOURCE.is_symlink():
        raise Trouble(
            f"{SOURCE.resolve()}, named before with --tree, lacks {', '.join(lacking(SOURCE))}: mend it, or remove "
            f"{shown(SOURCE)} to fetch Debian's"
        )
    missing = missing_tools({"apt-get": "apt", "dpkg-source": "dpkg-dev", "dpkg-deb": "dpkg", "xz": "xz-utils"})
    if "apt" in missing:
        raise Trouble(f"this machine has no apt-get, so Debian's packages cannot be read: use a Debian machine, {OTHERWISE}")
    if missing:
        raise Trouble(f"{len(missing)} commands are missing: apt-get install {' '.join(missing)}, {OTHERWISE}")
    apt = private_apt(suite)
    downloads = FOLDER / "downloads" / suite  # of one suite only: another is tried where this one does not fit
    downloads.mkdir(parents=True, exist_ok=True)
    if len(list(downloads.glob("*.dsc"))) < len(SOURCES) or len(list(downloads.glob("*.deb"))) < len(PACKAGES):
        step(f"reading the package lists of {suite}")
        run([*apt, "update"], FOLDER / "update.log")
        step(f"downloading {', '.join(SOURCES + PACKAGES)} (15 MB)")
        run([*apt, "source", "--download-only", *SOURCES], FOLDER / "source.log", cwd=downloads)
        run([*apt, "download", *PACKAGES], FOLDER / "download.log", cwd=downloads)
    step("unpacking")
    shutil.rmtree(FOLDER / "sdk", ignore_errors=True)
    for package in downloads.glob("*.deb"):
        run(["dpkg-deb", "-x", package, FOLDER / "sdk"], FOLDER / "unpack.log")
    mbedtls = unpack(next(downloads.glob("mbedtls_*.dsc")), FOLDER / "mbedtls")
    tree = unpack(next(downloads.glob("micropython_*.dsc")), FOLDER / "unlinked")
    link(tree / "lib/pico-sdk", only(FOLDER / "sdk", "pico_sdk_init.cmake").parent)
    link(tree / "lib/tinyusb", only(FOLDER / "sdk", "src/tusb.h").parents[1])
    link(tree / "lib/mbedtls", mbedtls)
    (tree / "lib/micropython-lib").mkdir(exist_ok=True)
    (tree / "lib/micropython-lib/README.md").touch()  # the build looks for this file alone; its content is not frozen in
    if SOURCE.exists():
        shutil.rmtree(SOURCE)  # an unfinished one
    os.rename(tree, SOURCE)
    missing = lacking(SOURCE)
    if missing:
        raise Trouble(f"{suite}'s packages lack {', '.join(missing)}: take --suite {SUITE}, {OTHERWISE}")


def private_apt(suite: str) -> list[str | Path]:
    """apt-get with lists and cache of its own, reading `suite` from the machine's own mirror."""
    mirror = debian_mirror()
    key = next((path for path in KEYRINGS if path.exists()), None)
    if key is None:
        raise Trouble(f"Debian's signing keys are not here: apt-get install debian-archive-keyring, {OTHERWISE}")
    home = FOLDER / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    lines = [f"{kind} [signed-by={key}] {mirror} {suite} main\n" for kind in ("deb", "deb-src")]
    (home / "sources.list").write_text("".join(lines))
    options = {
        "Dir::Etc::SourceList": home / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": home / "lists",
        "Dir::Cache": home / "cache",
        "APT::Sandbox::User": "root",  # otherwise root reads as a user who may not write here
        "Acquire::Retries": "3",
    }
    return ["apt-get", "-q", *[word for key, value in options.items() for word in ("-o", f"{key}={value}")]]


def debian_mirror() -> str:
    """The address from which this machine takes Debian's main archive; Trouble where it takes none."""
    asked = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True)
    found = re.findall(r"'(\S+)/dists/([a-z]+)/(?:In)?Release", asked.stdout)
    for address, _ in found:
        if address.rstrip("/").endswith("debian") or "/debian/" in address:  # a snapshot's goes on with its date
            return str(address)
    raise Trouble(
        f"none of this machine's {len(found)} package sources is Debian's main archive ({asked.stderr.strip()[-200:]}): "
        f"add one to apt's sources, {OTHERWISE}"
    )


def unpack(description: Path, target: Path) -> Path:
    """A source package, Debian's patches applied; its signature was checked by apt when it came."""
    if target.exists():
        shutil.rmtree(target)
    run(["dpkg-source", "--no-check", "--no-copy", "-x", description, target], FOLDER / "unpack.log")
    return target


def only(folder: Path, path: str) -> Path:
    found = sorted(folder.glob(f"**/{path}"))
    if not found:
        raise Trouble(f"no {path} under {shown(folder)}: remove {shown(FOLDER)} and try again, {OTHERWISE}")
    return found[0]


def link(path: Path, target: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    path.symlink_to(os.path.relpath(target, path.parent))  # relative: the project's folder may be moved


if __name__ == "__main__":
    os.chdir(BUILD.parent)
    report(main)
