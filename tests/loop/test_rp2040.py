"""The real firmware on an emulated RP2040: the emulator itself, deployment, sessions that match `sim` to the bit, power
cycles. Needs `make firmware`. Power cuts are in test_power.py."""

import subprocess
import time
from pathlib import Path

import blobs
import numpy as np
import pytest
import uf2

from tinycl.board import emulator as emulators
from tinycl.board.base import BoardError
from tinycl.board.emulator import FLASH_BYTES, ConsolePort, Emulator
from tinycl.board.repl import Repl
from tinycl.board.rp2040 import Rp2040Board, find_firmware
from tinycl.board.sim import SimBoard
from tinycl.link.errors import BoardGone, LinkError
from tinycl.shared.errors import TinyclError

pytest_plugins = ["emulated"]
ROOT = Path(__file__).parents[2]

X = np.concatenate([blobs.tiny_samples(label, 4, seed=5) for label in range(5)])


def answers(client):
    """What decides and shows a board's state: digest, classes, predictions with certainties."""
    classes, certainty = client.predict(X)
    return client.status()["digest"], client.classes(), classes.tolist(), certainty.tolist()


# the emulator


def test_the_quick_processor_is_rp2040js(need, copied):
    """All common opcodes on random data, then 400 ms of the boot: registers, flags, memory, cycles."""
    need(emulators.choose, "rp2040js")
    command = [emulators._node(), ROOT / "tests/loop/cpu_check.mjs", emulators._node_modules(), emulators._boot_rom(), copied]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    instructions, cycles = (int(line.split()[0]) for line in done.stdout.splitlines())
    assert instructions > 150_000 and cycles > 5_000_000


CYCLES = """
import machine
@micropython.viper
def measured(n: int) -> int:
    systick = ptr32(0xE000E010)
    systick[1] = 0xFFFFFF
    systick[2] = 0
    systick[0] = 5
    start = systick[2]
    s = 0
    for i in range(n):
        s += i * 3
    return (start - systick[2]) & 0xFFFFFF
measured(1)
before = machine.disable_irq()
a, b = measured(1000), measured(3000)
machine.enable_irq(before)
print(b - a)
"""


@pytest.mark.parametrize("kind", ["rp2040js", "rp2040py"])
def test_cycles_repeat_and_both_emulators_agree(need, firmware, tmp_path, kind):
    """SysTick's count of a loop is the same at every boot, on both emulators, and the slope of its length is exact."""
    need(emulators.choose, kind)
    found = []
    for _ in range(2 if kind == "rp2040js" else 1):
        image = tmp_path / "flash.img"
        image.write_bytes(firmware.ljust(FLASH_BYTES, b"\xff"))
        chip = Emulator(image, bytes(8), kind, timed=False)
        port = ConsolePort(chip.port)
        repl = Repl(port, kind)
        repl.enter(60)
        port.timeout = 5.0
        found.append(int(repl.execute(CYCLES, 60)))
        port.close()
        chip.kill()
    assert found == [2000 * 45] * len(found)


def test_an_id_of_its_own_and_the_flash_written_through(firmware, tmp_path):
    """What a board says is its id is the flash chip's; a file is in the image as soon as it is closed, whatever comes then."""
    image = tmp_path / "flash.img"
    image.write_bytes(firmware.ljust(FLASH_BYTES, b"\xff"))
    chip = Emulator(image, bytes.fromhex("e6612345678abcde"))
    repl = Repl(ConsolePort(chip.port), "chip")
    repl.enter(30)
    repl.port.timeout = 5.0
    assert repl.execute("import machine; print(machine.unique_id().hex())").strip() == "e6612345678abcde"
    text = b"written through " * 64
    assert text not in image.read_bytes()
    repl.execute(f"with open('f', 'wb') as f: f.write({text!r})", 30)
    chip.process.kill()
    assert b"written through " * 8 in image.read_bytes()


def test_a_cut_leaves_a_torn_operation(firmware, tmp_path):
    """The power goes in the middle of the n-th operation: it is half done, and none comes after it."""
    image = tmp_path / "flash.img"
    image.write_bytes(firmware.ljust(FLASH_BYTES, b"\xff"))
    code = "import rp2\nf = rp2.Flash()\nb = bytes(4096)\nfor i in range(8): f.writeblocks(300 + i, b)"
    chip = Emulator(image, bytes(8))
    repl = Repl(ConsolePort(chip.port), "chip")
    repl.enter(30)
    repl.port.timeout = 5.0
    chip.cut(flash_operations=17 * 3 + 11, torn=0.5)  # a block is one erase and 16 pages
    with pytest.raises(TinyclError):
        repl.execute(code, 30)
    assert chip.wait(10)
    chip.kill()
    at = FLASH_BYTES - 1408 * 1024 + 303 * 4096
    block = image.read_bytes()[at - 4096 : at + 8192]
    assert block[:4096] == bytes(4096) and block[4096:] == bytes(9 * 256 + 128) + b"\xff" * (8192 - 9 * 256 - 128)


# deployment


def test_a_uf2_file_is_the_firmware(firmware, tmp_path):
    file = tmp_path / "firmware.uf2"
    file.write_bytes(uf2.pack(firmware))
    assert file.stat().st_size == -(-len(firmware) // 256) * 512
    assert find_firmware(file) == firmware.ljust(-(-len(firmware) // 256) * 256, b"\xff")


@pytest.mark.parametrize("content", [b"", b"UF2\n" + bytes(700), bytes(FLASH_BYTES)])
def test_a_firmware_that_is_none_is_refused(tmp_path, content):
    file = tmp_path / "firmware.bin"
    file.write_bytes(content)
    with pytest.raises(BoardError, match="make firmware"):
        find_firmware(file)
    with pytest.raises(BoardError, match="make firmware"):
        find_firmware(tmp_path / "none.bin")


def test_a_flash_of_another_size_is_refused(firmware, tmp_path):
    (tmp_path / "flash.img").write_bytes(bytes(1000))
    with pytest.raises(BoardError, match=r"1,000 bytes.*2,097,152.*remove"):
        Rp2040Board(flash=tmp_path / "flash.img").deploy()
    assert (tmp_path / "flash.img").read_bytes() == bytes(1000)


def test_an_older_runtime_is_replaced_and_what_was_learned_stays(copied):
    """A kept flash whose notes tell of another runtime is deployed to, over the agent that runs on it."""
    with Rp2040Board(flash=copied) as board:
        before = answers(board.client), board.link.board["board"]
        with board.repl() as repl:
            repl.execute("f = open('agent.mpy', 'ab'); f.write(b'old'); f.close(); open('of-a-student', 'w').close()")
    notes = copied.with_name(copied.name + ".json")
    notes.write_text(notes.read_text().replace('"deployed": "', '"deployed": "older'))
    with Rp2040Board(flash=copied) as board:
        assert (answers(board.client), board.link.board["board"]) == before
        with board.repl() as repl:
            assert "of-a-student" in repl.execute("import os; print(os.listdir())")


# sessions


def test_learns_what_sim_learns_and_survives_a_power_cycle(firmware, micropython, tmp_path):
    """The same blob and enrolments on both boards: digests, predictions and certainties match to the bit, also afterwards."""
    told = []
    with SimBoard() as sim, Rp2040Board(flash=tmp_path / "flash.img") as board:
        assert board.link.board["platform"] == "rp2" and "RP2040" in board.link.board["machine"]
        for each in (sim, board):
            each.client.send_blob(blobs.tiny_blob())
            for label, name in ((3, "three"), (4, "four")):
                each.client.enrol(name, blobs.tiny_samples(label, 12))
            told.append(answers(each.client))
        assert told[0] == told[1]
        board.restart()
        assert answers(board.client) == told[0]
        assert board.link.repeats < 20


def test_a_short_life(chip):
    """Classes come and go: memory in use stays flat, and what is left is what was there. sim lives for thousands of them."""
    before, free = answers(chip.client), []
    for k in range(8):
        chip.client.enrol("four", blobs.tiny_samples(4, 12))
        assert len(chip.client.classes()) == 5
        chip.client.forget("four")
        free.append(chip.client.status()["free_bytes_raw"])
        assert sorted(chip.client.classes()) == sorted(before[1]), k
    assert max(free) - min(free) <= 2048 and answers(chip.client)[1] == before[1]


def test_as_much_memory_is_free_as_on_sim(firmware, micropython, tmp_path):
    """sim's heap is chosen so: what fits there fits on the chip (see HEAP_BYTES)."""
    free = []
    for board in (SimBoard(micropython=micropython), Rp2040Board(flash=tmp_path / "flash.img")):
        with board:
            free.append(board.client.status()["free_bytes"])
    assert free[0] == pytest.approx(free[1], rel=0.03)


@pytest.mark.parametrize("kernels", ["native", "viper", "plain"])
def test_every_kernel_predicts_the_same(chip, kernels):
    if kernels not in chip.link.board["available"]:
        pytest.skip(f"no {kernels} kernels were built ('make natmod')")
    before = answers(chip.client)
    chip.client.choose_kernels(kernels)
    assert answers(chip.client) == before and chip.client.status()["kernels"] == kernels


def test_a_host_that_does_not_read_loses_the_training_and_nothing_else(chip):
    """It holds the port open and takes nothing while the board trains, long: events are dropped and counted, who comes back
    calls the training off, and the board is as it was."""
    chip.client.send_blob(blobs.tiny_blob(target_permille=1001, epochs=255, patience=255))
    before = answers(chip.client)
    dropped = chip.client.status()["dropped"]
    chip.client.open_enrolment("four", 12)
    chip.client.send_samples(blobs.tiny_samples(4, 12))
    chip.chip.ask("read", on=False)
    with pytest.raises(LinkError):
        chip.client.train()
    chip.chip.ask("read", on=True)
    chip.link.recover()
    assert chip.client.status()["dropped"] > dropped
    assert answers(chip.client) == before and "four" not in chip.client.classes()
    chip.client.send_blob(blobs.tiny_blob())
    chip.client.enrol("five", blobs.tiny_samples(5, 12))
    assert "five" in chip.client.classes()


def test_a_reset_takes_the_port_away_and_the_state_comes_back(chip):
    before = answers(chip.client)
    chip.chip.ask("reset")
    with pytest.raises(BoardGone):
        for _ in range(3):
            chip.client.status()
    chip.connect()
    assert answers(chip.client) == before
    with chip.repl() as repl:
        repl.hard_reset()  # by its watchdog
    deadline = time.monotonic() + 10
    while chip.chip.state()["boots"] < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert chip.chip.state()["boots"] == 3
    chip.connect()
    assert answers(chip.client) == before


@pytest.mark.parametrize("window_ms", [250, 0])
def test_main_leaves_time_to_escape_from_an_agent_that_never_ends(chip, window_ms):
    """micropython#15230, #6853 (an endless main.py makes a board unreachable): Ctrl-C gets the REPL 200 ms after power-on.
    Without the window that main.py leaves it comes too late: the agent here lets nobody in."""
    files = {"agent.py": "import micropython\nmicropython.kbd_intr(-1)\nwhile True: pass\n"}
    with chip.repl() as repl:
        assert "ESCAPE_MS = 250 " in repl.execute("import os; os.remove('agent.mpy'); print(open('main.py').read())", 30)
        if not window_ms:
            files["main.py"] = (ROOT / "device/main.py").read_text().replace("ESCAPE_MS = 250 ", "ESCAPE_MS = 0 ")
        for name, text in files.items():
            repl.execute(f"with open({name!r}, 'w') as f: f.write({text!r})", 30)
    chip.stop()
    chip.start()
    port = chip.open_port()
    while chip.chip.state()["cycles"] < 125_000 * 200:
        pass
    port.write(b"\x03")
    port.timeout = 10
    said = port.read_until(b">>> ")
    assert said.endswith(b">>> ") == (window_ms > 0), said


def test_in_its_boot_loader_it_is_off_the_bus(chip):
    with chip.repl() as repl:
        repl.boot_loader()
    deadline = time.monotonic() + 10
    while not chip.chip.state()["boot_loader"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert chip.chip.state()["boot_loader"]
    with pytest.raises(LinkError):
        chip.connect()
    chip.restart()
    assert chip.client.status()["classes"] == 4
