"""The cache gives back what was put in, or nothing: never something else, whatever happened to its files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convatlas import cache
from convatlas.cache import Store, parse_size
from convatlas.errors import ConvAtlasError

IDENTITY = {"network": "resnet50", "weights": "0123"}


def entries(count: int, length: int = 40) -> dict[str, bytes]:
    """`count` values of `length` bytes, no two alike."""
    return {
        f"key{i:04d}": bytes((i * 37 + place * 11 + i // 256) % 256 for place in range(length)) for i in range(count)
    }


def filled(count: int = 5, length: int = 40, kind: str = "features") -> Path:
    """A closed store file of `IDENTITY` with so many entries."""
    store = Store(kind, IDENTITY)
    store.put(entries(count, length).items())
    store.close()
    return store.path


def found(keys: list[str]) -> dict[str, bytes | None]:
    """What a newly opened store holds under these keys."""
    store = Store("features", IDENTITY)
    try:
        return {key: store.get(key) for key in keys}
    finally:
        store.close()


def execute(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement, values)
    db.close()


def test_what_was_put_is_found_in_a_later_run() -> None:
    filled(5)
    assert found([*entries(5), "other"]) == {**entries(5), "other": None}


def test_a_later_value_replaces_an_earlier_one() -> None:
    filled(2)
    store = Store("features", IDENTITY)
    store.put([("key0001", b"new")])
    assert (store.get("key0000"), store.get("key0001")) == (entries(1)["key0000"], b"new")
    store.close()


@pytest.mark.parametrize(
    ("kind", "identity"),
    [("facts", IDENTITY), ("features", IDENTITY | {"weights": "0124"}), ("features", IDENTITY | {"extra": None})],
)
def test_another_identity_is_another_store(kind: str, identity: dict[str, str]) -> None:
    path = filled()
    store = Store(kind, identity)
    assert store.path != path
    assert store.get("key0000") is None
    store.close()


def test_the_order_of_an_identity_s_fields_means_nothing() -> None:
    path = filled()
    store = Store("features", dict(reversed(IDENTITY.items())))
    assert store.path == path
    store.close()


def test_a_flipped_bit_anywhere_in_a_value_makes_it_absent() -> None:
    path = filled(41)
    with sqlite3.connect(path) as db:
        for place, (key, value) in enumerate(entries(40).items()):
            damaged = bytearray(value)
            damaged[place] ^= 1 << place % 8
            db.execute("UPDATE entries SET value = ? WHERE key = ?", (bytes(damaged), key))
    db.close()
    assert found(list(entries(41))) == dict.fromkeys(entries(40)) | {"key0040": entries(41)["key0040"]}


def test_values_under_the_wrong_key_or_identity_are_absent() -> None:
    path = filled()
    execute(path, "UPDATE entries SET key = 'key9999' WHERE key = 'key0001'")
    other = Store("features", {"network": "another"})
    other.close()
    execute(other.path, "ATTACH ? AS filled", str(path))
    with sqlite3.connect(other.path) as db:
        db.execute("ATTACH ? AS filled", (str(path),))
        db.execute("INSERT INTO entries SELECT * FROM filled.entries")
    db.close()
    assert found(["key0001", "key9999"]) == {"key0001": None, "key9999": None}
    other = Store("features", {"network": "another"})
    assert other.get("key0002") is None
    other.close()


def test_a_checksum_or_value_of_another_kind_is_absent() -> None:
    path = filled(4)
    execute(path, "UPDATE entries SET checksum = NULL WHERE key = 'key0000'")
    execute(path, "UPDATE entries SET value = NULL WHERE key = 'key0001'")
    execute(path, "UPDATE entries SET value = 'text' WHERE key = 'key0002'")
    assert found(list(entries(4))) == dict.fromkeys(entries(3)) | {"key0003": entries(4)["key0003"]}


def test_what_was_damaged_is_replaced_by_what_is_put_again() -> None:
    path = filled()
    execute(path, "UPDATE entries SET value = x'00' WHERE key = 'key0002'")
    filled()
    assert found(list(entries(5))) == entries(5)


@pytest.mark.parametrize("how", ["text", "empty", "half", "header", "one page", "every page"])
def test_a_damaged_file_gives_nothing_wrong_and_serves_again(how: str) -> None:
    path = filled(500, 200)
    data = bytearray(path.read_bytes())
    if how == "text":
        data = bytearray(b"this is not a database, however long it may be read for" * 100)
    elif how == "empty":
        data.clear()
    elif how == "half":
        del data[len(data) // 2 :]
    elif how == "header":
        data[:50] = bytes(50)
    else:
        page = 4096
        for start in range(page, len(data), page) if how == "every page" else [len(data) // 2 // page * page]:
            data[start : start + 64] = b"\xa5" * 64
    path.write_bytes(data)
    expected = entries(500, 200)
    seen = found(list(expected))
    assert all(value in (None, expected[key]) for key, value in seen.items())
    filled(500, 200)
    assert found(list(expected)) == expected


def test_a_cache_that_cannot_be_written_warns_and_is_gone_without() -> None:
    store = Store("features", IDENTITY)
    store.put([("a", b"1")])
    store._db.execute("PRAGMA query_only = ON")  # what a full disk or a read-only file looks like
    with pytest.warns(UserWarning, match="the cache could not be written .*; the run goes on without it"):
        store.put([("b", b"2")])
    assert (store.get("a"), store.get("b")) == (b"1", None)
    store.close()


@pytest.mark.parametrize("below", ["", "further/down"])
def test_a_cache_folder_that_cannot_be_made_warns_and_is_gone_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "file" / below))
    with pytest.warns(UserWarning, match="Set CONVATLAS_CACHE to a writable folder"):
        store = Store("features", IDENTITY)
    store.put([("a", b"1")])
    assert store.get("a") == b"1"
    store.close()
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_locked_file_is_waited_for_and_never_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled()
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **options: connect(*a, **options | {"timeout": 0.05}))
    with pytest.warns(UserWarning, match="database is locked"):
        store = Store("features", IDENTITY)
    store.close()
    other.rollback()
    other.close()
    assert found(list(entries(5))) == entries(5)


def test_threads_share_a_store() -> None:
    store = Store("features", IDENTITY)
    expected = entries(40)

    def work(key: str) -> bytes | None:
        store.put([(key, expected[key])])
        return store.get(key)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, expected)) == list(expected.values())
    store.close()


def test_processes_share_a_store() -> None:
    code = """
import sys
from convatlas.cache import Store
store, start = Store("features", {"network": "resnet50", "weights": "0123"}), int(sys.argv[1])
for i in range(start, start + 150, 10):
    store.put([(f"key{k}", str(k).encode() * 50) for k in range(i, i + 10)] + [("both", b"the same")])
    assert store.get(f"key{i}") == str(i).encode() * 50
"""
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code, str(start)], stderr=subprocess.PIPE)
        for start in (0, 150, 300)
    ]
    assert [(process.communicate()[1], process.returncode) for process in running] == [(b"", 0)] * 3
    assert found([f"key{i}" for i in range(450)]) == {f"key{i}": str(i).encode() * 50 for i in range(450)}
    assert found(["both"]) == {"both": b"the same"}


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "own"))
    assert filled().parent == cache.cache_folder() == tmp_path / "own"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONVATLAS_CACHE", "~/tilde")
    assert cache.cache_folder() == tmp_path / "tilde"
    monkeypatch.delenv("CONVATLAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "convatlas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == tmp_path / ".cache" / "convatlas"


def of_age(name: str, age: int, kilobytes: int) -> Path:
    """A file of the cache, last used `age` seconds before now; what is in it does not matter for pruning."""
    path = cache.cache_folder() / f"{name}.sqlite"
    path.write_bytes(b"x" * 1000 * kilobytes)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def test_contents_say_what_is_there() -> None:
    new, old = filled(3), filled(2, kind="facts")
    os.utime(old, (5000, 5000))
    broken = of_age("broken", 100, 14)
    assert [file.path for file in cache.contents()] == [new, broken, old]
    assert [file.entries for file in cache.contents()] == [3, 0, 2]
    assert [file.identity for file in cache.contents()] == [IDENTITY, {"damaged": True}, IDENTITY]
    assert [file.bytes_ for file in cache.contents()] == [path.stat().st_size for path in (new, broken, old)]
    assert cache.contents()[2].used == 5000


def test_no_cache_is_an_empty_one() -> None:
    assert cache.contents() == []
    assert cache.prune(0) == []


@pytest.mark.parametrize(
    ("limit", "kept"), [(0, 0), (39_999, 0), (40_000, 1), (100_000, 1), (340_000, 2), (360_000, 3), (10**9, 4)]
)
def test_prune_removes_what_was_not_used_for_longest(limit: int, kept: int) -> None:
    # newest first; the third would fit where the second does not, yet goes before it
    files = [of_age("d", 1, 40), of_age("b", 2, 300), of_age("c", 3, 20), of_age("a", 4, 60)]
    removed = [file.path for file in cache.prune(limit)]
    assert [path for path in files if path.exists()] == files[:kept]
    assert sorted(removed) == sorted(files[kept:])
    assert sum(file.bytes_ for file in cache.contents()) <= limit


def test_prune_spares_what_it_is_told_to_keep() -> None:
    files = [of_age("b", 1, 40), of_age("a", 2, 300), of_age("c", 3, 20)]
    cache.prune(0, keep=[files[2]])
    assert [path.exists() for path in files] == [False, False, True]


def test_opening_a_store_counts_as_use() -> None:
    old = filled(1)
    os.utime(old, (5000, 5000))
    new = of_age("a", 100, 40)
    Store("features", IDENTITY).close()
    assert [file.path for file in cache.prune(40_000)] == [new]
    assert old.exists()


def test_the_limit_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    path = of_age("a", 1, 300)
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "1 MB")
    assert cache.prune() == []
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "200K")
    assert [file.path for file in cache.prune()] == [path]


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("0", 0), ("1000000", 10**6), ("5G", 5 * 10**9), ("500 MB", 5 * 10**8), ("1.5k", 1500), (" 2tb ", 2 * 10**12), ("7 B", 7)],
)  # fmt: skip
def test_sizes(text: str, bytes_: int) -> None:
    assert parse_size(text) == bytes_


@pytest.mark.parametrize("text", ["", " ", "G", "5X", "five", "5 5", "-1", "-5G", "nan", "inf", "1e999", "5GG", "0x10"])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ConvAtlasError, match=r"is not a size\. Write it as 500M, 5G or a number of bytes\."):
        parse_size(text)


def test_identities_are_legible() -> None:
    path = filled()
    with sqlite3.connect(path) as db:
        (described,) = db.execute("SELECT described FROM identity").fetchone()
    db.close()
    assert json.loads(described) == IDENTITY
