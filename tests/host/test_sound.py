"""Sound: clips of any rate, channels and length, folders of them, Speech Commands and spoken digits, and what is refused."""

import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycl import data
from tinycl.data import clips, files, logmel, sound, speech, spoken
from tinycl.errors import DataError

REAL = Path(__file__).parents[3] / "shared/data"
RATE = 16000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def tone(hz: float, seconds: float = 1.0, rate: int = RATE, level: float = 8000) -> np.ndarray:
    return np.rint(level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def wav(path: Path, x: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, rate, subtype)
    return path


def heard(path: Path, samples: int = RATE) -> tuple[np.ndarray, Counter[str]]:
    done: Counter[str] = Counter()
    return clips.clip(path.name, *clips.read(path.name, path.read_bytes()), samples, done), done


def peak_hz(x: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(x * np.hanning(len(x)))).argmax() * RATE / len(x))


# one clip


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_clip_that_fits_is_taken_as_it_is(tmp_path: Path, suffix: str) -> None:
    x = np.random.default_rng(0).integers(-32768, 32768, RATE).astype(np.int16)
    made, done = heard(wav(tmp_path / f"a{suffix}", x))
    assert made.dtype == np.int16 and np.array_equal(made, x) and done == {"clips": 1}


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_another_rate_is_resampled_and_said(tmp_path: Path, rate: int) -> None:
    made, done = heard(wav(tmp_path / "a.wav", tone(1000, rate=rate), rate))
    assert done == {"clips": 1, f"resampled from {rate} Hz": 1} and len(made) == RATE
    assert abs(peak_hz(made) - 1000) <= 1
    middle = made[2000:-2000].astype(float)
    expected = 8000 * np.sin(2 * np.pi * 1000 * np.arange(2000, RATE - 2000) / RATE)
    assert np.abs(middle - expected).max() < 0.02 * 8000


def test_what_the_lower_rate_cannot_hold_does_not_fold_back(tmp_path: Path) -> None:
    made, _ = heard(wav(tmp_path / "a.wav", tone(11000, rate=44100), 44100))
    assert np.abs(made[1000:-1000]).max() < 80  # 40 dB below what it was


def test_channels_are_averaged_and_said(tmp_path: Path) -> None:
    made, done = heard(wav(tmp_path / "a.wav", np.stack((tone(500), np.zeros(RATE, np.int16)), 1)))
    assert np.abs(made - tone(500) / 2).max() <= 0.5 and done == {"clips": 1, "mixed down": 1}


@pytest.mark.parametrize(("subtype", "error"), [("PCM_24", 1), ("FLOAT", 1), ("DOUBLE", 1), ("PCM_U8", 260), ("ULAW", 600)])
def test_other_sample_formats(tmp_path: Path, subtype: str, error: float) -> None:
    made, _ = heard(wav(tmp_path / "a.wav", tone(440) / 32768, subtype=subtype))
    assert np.abs(made - tone(440).astype(int)).max() <= error and np.abs(made).max() > 7000


def test_a_short_clip_gets_silence_on_both_sides_and_it_is_said(tmp_path: Path) -> None:
    x = tone(700, 0.101)
    made, done = heard(wav(tmp_path / "a.wav", x))
    start = (RATE - len(x)) // 2
    assert np.array_equal(made[start : start + len(x)], x) and not made[:start].any() and not made[start + len(x) :].any()
    assert done == {"clips": 1, "padded with silence": 1}


def test_a_clip_under_a_tenth_of_a_second_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.wav: 0\.099 s of sound, 0\.1 s at least: record it again"):
        heard(wav(tmp_path / "a.wav", tone(700, 0.099)))
    with pytest.raises(DataError, match=r"0\.000 s"):
        heard(wav(tmp_path / "a.wav", tone(700, 0)))


def test_of_a_long_clip_the_loudest_second_is_taken(tmp_path: Path) -> None:
    x = np.concatenate((tone(300, 1.5, level=100), tone(900, 1), tone(300, 2, level=100)))
    made, done = heard(wav(tmp_path / "a.wav", x))
    assert abs(peak_hz(made) - 900) <= 1 and np.abs(made.astype(int)[:4000]).max() > 7000 and np.abs(made[-4000:]).max() > 7000
    assert done == {"clips": 1, "cut to the loudest part": 1}


@pytest.mark.parametrize("cut", [1, 2, 100, 31000])
def test_a_truncated_wav_is_refused(tmp_path: Path, cut: int) -> None:
    path = wav(tmp_path / "a.wav", tone(500))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=rf"a\.wav: {32000 - cut} bytes of sound, its header promises 32000: record it again"):
        heard(path)


@pytest.mark.parametrize("keep", [0, 3, 11, 20, 40])
def test_a_wav_cut_in_its_header_is_refused(tmp_path: Path, keep: int) -> None:
    path = wav(tmp_path / "a.wav", tone(500))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.wav: (cannot be read|.* s of sound)"):
        heard(path)


def test_a_truncated_flac_is_refused(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.flac", np.random.default_rng(0).integers(-9000, 9000, RATE).astype(np.int16))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"a\.flac: (cannot be read|\d+ samples, its header promises 16000)"):
        heard(path)


def test_a_wav_written_to_a_pipe_is_taken(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", tone(500))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert np.array_equal(heard(path)[0], tone(500))


def test_a_text_file_named_wav_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("this is no sound\n" * 50)
    with pytest.raises(DataError, match=r"a\.wav: cannot be read \(.*\): save it anew as 16-bit wav, or take it out"):
        heard(path)


@settings(max_examples=150)
@given(st.sampled_from(["WAV", "FLAC"]), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=6), st.data())
def test_a_damaged_file_is_a_clip_or_an_error_of_ours(kind: str, changes: list[tuple[int, int]], more: st.DataObject) -> None:
    made = io.BytesIO()
    soundfile.write(made, tone(500, 0.2), RATE, format=kind, subtype="PCM_16")
    content = bytearray(made.getvalue())
    for at, value in changes:
        content[at % len(content)] = value
    content = content[: more.draw(st.integers(0, len(content)))]
    try:
        x, rate = clips.read("a", bytes(content))
        clip = clips.clip("a", x, rate, RATE, Counter())
    except DataError as e:
        assert str(e).startswith("a: ") and ": " in str(e)[3:]
    else:
        assert clip.shape == (RATE,) and clip.dtype == np.int16


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_any_bytes_are_no_sound(content: bytes) -> None:
    for head in (b"", b"RIFF\xff\xff\0\0WAVEfmt ", b"fLaC\0\0\0\x22", b"OggS", b"FORM"):
        with pytest.raises(DataError, match=r"^a: "):
            clips.clip("a", *clips.read("a", head + content), RATE, Counter())


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    x = tone(500) / 32768
    x[77] = np.nan
    with pytest.raises(DataError, match="1 values are NaN or infinite"):
        heard(wav(tmp_path / "a.wav", x, subtype="FLOAT"))


def test_rates_and_lengths_beyond_reason_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1000 Hz, 4000 to 192000 are taken: resample"):
        heard(wav(tmp_path / "a.wav", tone(100, 1, 1000), 1000))
    with pytest.raises(DataError, match="601 s long, 600 s at most: cut it"):
        heard(wav(tmp_path / "b.wav", np.zeros(601 * 4000, np.int16), 4000))


# a folder per class


def folder(tmp_path: Path) -> Path:
    """Three classes of seven whistles, none of them as the features want it."""
    rng = np.random.default_rng(3)
    for label, hz in enumerate((300, 900, 2700)):
        for i in range(7):
            rate = (16000, 44100)[i % 2]
            x = tone(hz * rng.uniform(0.97, 1.03), (1.0, 0.5, 2.0)[i % 3], rate) + rng.normal(0, 50, 1)
            x = np.stack((x, x), 1) if i == 6 else x
            wav(tmp_path / f"own/{['low', 'middle', 'high'][label]}/{i}.{'wav' if i % 2 else 'flac'}", x.astype(np.int16), rate)
    return tmp_path / "own"


def test_a_folder_of_sound_per_class(tmp_path: Path) -> None:
    made = data.load(str(folder(tmp_path)))
    assert made.classes == ("high", "low", "middle") and made.modality == "sound"
    assert made.sample_shape == logmel.Settings().shape
    assert made.x_train.dtype == np.uint8 and (made.low, made.high) == (0, 127)
    assert np.bincount(made.y_train).tolist() == [6, 6, 6] and np.bincount(made.y_test).tolist() == [1, 1, 1]
    assert set(made.notes) == {
        "9 of 21 clips resampled from 44100 Hz",
        "3 of 21 clips mixed down",
        "6 of 21 clips padded with silence (1 s)",
        "6 of 21 clips cut to the loudest part (1 s)",
    }
    loudest = made.x_train.astype(int).sum((1, 3)).argmax(1)
    means = [loudest[made.y_train == made.classes.index(name)].mean() for name in ("low", "middle", "high")]
    assert means[0] + 5 < means[1] < means[2] - 5


def test_features_of_a_clip_do_not_depend_on_its_format(tmp_path: Path) -> None:
    x = np.rint(np.random.default_rng(1).normal(0, 900, RATE)).astype(np.int16)
    for name in ("a", "b"):
        for i in range(2):
            wav(tmp_path / f"own/{name}/{i}.{'wav' if i else 'flac'}", x)
    made = data.load(str(tmp_path / "own"))
    assert (made.x_train == logmel.features(x[None])[0]).all()


def test_features_are_kept_by_content(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder(tmp_path)
    first = sound.load(own)
    kept = sorted(cache.iterdir())
    assert sorted(p.suffix for p in kept) == [".json", ".npy"]
    with monkeypatch.context() as patch:
        patch.setattr(clips, "read", None)  # a second time nothing is decoded
        again = sound.load(own)
    assert np.array_equal(first.x_train, again.x_train) and first.notes == again.notes
    wav(own / "low/1.wav", tone(2000))  # the same name, another content
    assert not np.array_equal(sound.load(own).x_test, first.x_test) and len(list(cache.iterdir())) == 4
    sound.load(own, logmel.Settings(mels=24))
    assert len(list(cache.iterdir())) == 6


def test_a_folder_with_a_split(tmp_path: Path) -> None:
    for part, n in (("train", 3), ("test", 2)):
        for name, hz in (("a", 300), ("b", 2000)):
            for i in range(n):
                wav(tmp_path / f"own/{part}/{name}/{i}.wav", tone(hz + 10 * i))
    made = data.load(str(tmp_path / "own"))
    assert len(made.x_train) == 6 and len(made.x_test) == 4 and made.split_rule == "as in the folders train and test"
    (tmp_path / "own/test/c").mkdir()
    wav(tmp_path / "own/test/c/1.wav", tone(99))
    with pytest.raises(DataError, match=r"2 classes in train, 3 in test, not in both: c: match them"):
        data.load(str(tmp_path / "own"))


def test_an_empty_class_is_refused(tmp_path: Path) -> None:
    (folder(tmp_path) / "nothing").mkdir()
    with pytest.raises(DataError, match=r"class 'nothing' has 0 sounds \(\.wav, .*\): put some there or delete its folder"):
        data.load(str(tmp_path / "own"))


@pytest.mark.parametrize("content", [b"no sound at all", b""])
def test_a_bad_file_in_a_folder_is_named_and_leaves_no_cache(tmp_path: Path, cache: Path, content: bytes) -> None:
    (folder(tmp_path) / "low/1.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.wav: cannot be read"):
        data.load(str(tmp_path / "own"))
    assert list(cache.iterdir()) == []


# Speech Commands


def published(tmp_path: Path) -> Path:
    """The published layout in small: three words and others, four speakers, lists, background noise."""
    root, rng = tmp_path / "speech", np.random.default_rng(0)
    lists: dict[str, list[str]] = {"testing_list.txt": [], "validation_list.txt": []}
    for word in ("yes", "no", "go", "bed", "cat"):
        for speaker in ("0a7c2a8d", "1b4c9b89", "2aca1e72", "3cc595de"):
            for take in range(2):
                name = f"{word}/{speaker}_nohash_{take}.wav"
                wav(root / name, np.rint(rng.normal(0, 900, RATE if take else 13000)).astype(np.int16))
                if speaker[0] in "01":
                    lists["testing_list.txt" if speaker[0] == "0" else "validation_list.txt"].append(name)
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n")
    wav(root / "_background_noise_/hum.wav", np.rint(rng.normal(0, 90, 10 * RATE + 5)).astype(np.int16))
    (root / "_background_noise_/README.md").write_text("noise")
    return root


def test_the_published_layout(tmp_path: Path) -> None:
    root = published(tmp_path)
    made = speech.load(root, ("yes", "no", "go"))
    assert speech.layout(root) == "published" and made.sample_shape == logmel.Settings().shape
    assert np.bincount(made.y_train).tolist() == [4, 4, 4] and np.bincount(made.y_test).tolist() == [2, 2, 2]
    assert made.groups_train is not None and made.groups_test is not None and made.group_kind == "speaker"
    assert set(made.groups_test.tolist()) == {0x0A7C2A8D} and set(made.groups_train.tolist()) == {0x2ACA1E72, 0x3CC595DE}
    assert made.notes == ("9 of 18 clips padded with silence (1 s)",)


def test_unknown_and_silence_of_the_published_layout(tmp_path: Path) -> None:
    made = speech.load(published(tmp_path), ("yes", "no", "go"), unknown=True, silence=True)
    assert made.classes == ("yes", "no", "go", "_unknown_", "_silence_") and made.base_count == 1
    assert np.bincount(made.y_train).tolist() == [4, 4, 4, 4, 8] and np.bincount(made.y_test).tolist() == [2, 2, 2, 2, 2]
    assert made.notes == ("13 of 34 clips padded with silence (1 s)",)
    again = speech.load(tmp_path / "speech", ("yes", "no", "go"), unknown=True, silence=True)
    assert np.array_equal(made.x_train, again.x_train)


def test_a_word_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class 'stop' has 0 training clips: fetch its folder again, or leave it out"):
        speech.load(published(tmp_path), ("yes", "stop"))
    with pytest.raises(DataError, match=r"neither split\.csv .* 2 lists validation_list\.txt, testing_list\.txt: fetch"):
        speech.load(tmp_path)


def zipped(tmp_path: Path, rows: int = 6) -> Path:
    """The zips in small: six words' clips of flac and split.csv."""
    root, lines = tmp_path / "zips", ["split,word,speaker,take,file,rms"]
    root.mkdir()
    for word, hz in (("yes", 400), ("no", 1500)):
        with zipfile.ZipFile(root / f"{word}.zip", "w") as archive:
            for i in range(rows):
                made = io.BytesIO()
                soundfile.write(made, tone(hz + i), RATE, format="FLAC")
                archive.writestr(f"{word}/{i:08x}_nohash_0.flac", made.getvalue())
                lines.append(f"{'test' if i % 3 == 0 else 'train'},{word},{i:08x},0,{word}/{i:08x}_nohash_0.flac,1.0")
    (root / "split.csv").write_text("\n".join(lines) + "\n")
    return root


def test_the_zips(tmp_path: Path) -> None:
    made = speech.load(zipped(tmp_path), ("yes", "no"))
    assert made.y_test.tolist() == [0, 0, 1, 1] and len(made.x_train) == 8 and made.notes == ()
    assert np.array_equal(made.x_test[1], logmel.features(tone(403)[None])[0])
    assert made.groups_test is not None and made.groups_test.tolist() == [0, 3, 0, 3]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("yes.zip", lambda b: b[: len(b) // 2], r"yes\.zip: cannot be read"),
        ("yes.zip", lambda b: b.replace(b"fLaC", b"fLaX"), r"(Bad CRC|cannot be read)"),
        ("split.csv", lambda b: b.replace(b"yes/00000002", b"yes/0000000f"), r"0 bytes of 'yes/0000000f_nohash_0\.flac'"),
        ("split.csv", lambda b: b.replace(b"speaker", b"who"), r"split\.csv: 12 rows without speaker: fetch it again"),
        ("split.csv", lambda b: b"", r"split\.csv: 0 rows without file, speaker, split, word"),
        ("split.csv", lambda b: b"\xff\xfe" + b, r"split\.csv: cannot be read"),
        ("split.csv", lambda b: b.replace(b"test,", b"train,"), r"class 'yes' has 0 test clips"),
    ],
)
def test_zips_with_faults(tmp_path: Path, name: str, change, message: str) -> None:
    path = zipped(tmp_path) / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        speech.load(path.parent, ("yes", "no"))


def test_the_real_clips() -> None:
    """Every word of ours is there, whole and of one second; a linear rule on the features tells two words apart."""
    real = REAL / "speech_commands"
    if not real.is_dir():
        pytest.skip(f"no {real}: the recordings of Speech Commands lie outside the repository")
    made = speech.load(real, ("yes", "stop"))
    assert np.bincount(made.y_train).tolist() == [274, 257] and np.bincount(made.y_test).tolist() == [129, 136]
    assert made.notes == () and made.x_train.max() == 127
    assert made.groups_train is not None and made.groups_test is not None
    assert not set(made.groups_train.tolist()) & set(made.groups_test.tolist())
    from sklearn.linear_model import LogisticRegression

    x, x_test = made.x_train.reshape(len(made.x_train), -1) / 127, made.x_test.reshape(len(made.x_test), -1) / 127
    assert LogisticRegression(C=0.01, max_iter=300).fit(x, made.y_train).score(x_test, made.y_test) > 0.85


# spoken digits


def test_spoken_digits_as_published(tmp_path: Path) -> None:
    for digit in range(10):
        for who in ("theo", "jackson"):
            for take in (0, 4, 5):
                wav(tmp_path / f"recordings/{digit}_{who}_{take}.wav", tone(300 + 100 * digit, 0.4, 8000), 8000)
    made = spoken.load(tmp_path)
    assert np.bincount(made.y_train).tolist() == [2] * 10 and np.bincount(made.y_test).tolist() == [4] * 10
    assert made.groups_train is not None and made.groups_train[:2].tolist() == [0, 1]
    assert made.notes == ("60 of 60 clips padded with silence (1 s)", "60 of 60 clips resampled from 8000 Hz")
    with pytest.raises(DataError, match=r"0 files DIGIT_SPEAKER_TAKE\.wav"):
        spoken.load(tmp_path / "recordings" / "none")
