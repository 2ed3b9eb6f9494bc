# Runs on the board, at its raw REPL, before files are sent: `begin` opens a temporary file, `more` appends a piece to it, and
# `done` reads it back and gives it its name only if it has the CRC-32 that it should have.
import os
from binascii import a2b_base64, crc32

TEMPORARY = "tinycl.tmp"


def begin(path):
    global out
    folder = ""
    for part in path.split("/")[:-1]:
        folder = folder + "/" + part if folder else part
        try:
            os.mkdir(folder)
        except OSError:
            os.stat(folder)
    out = open(TEMPORARY, "wb")


def more(text):
    piece = a2b_base64(text)
    if out.write(piece) != len(piece):
        raise OSError(28)


def done(path, crc):
    out.close()
    found = 0
    piece = memoryview(bytearray(512))
    with open(TEMPORARY, "rb") as f:
        while True:
            n = f.readinto(piece)
            if not n:
                break
            found = crc32(piece[:n], found)
    if found & 0xFFFFFFFF != crc:
        os.remove(TEMPORARY)
        print("wrong", found & 0xFFFFFFFF)
        return
    try:
        os.rename(TEMPORARY, path)
    except OSError:  # FAT does not rename over a file
        os.remove(path)
        os.rename(TEMPORARY, path)
    if hasattr(os, "sync"):
        os.sync()
    print("right")


def give_up():
    try:
        out.close()
        os.remove(TEMPORARY)
    except (OSError, NameError):
        pass
