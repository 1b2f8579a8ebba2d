"""A layer below SQLite that sees every write, sync, cut and removal of the files in chosen folders. Floor 10.

* SQLite calls the operating system through a table of functions, its VFS. Here that table is copied, and the calls that
  change a file are taken by functions of ours, which tell a watcher and then do what they always did.
* A sync is told and not done: what would be on the disk is the watcher's account, not this machine's.
* Nothing else in the process is touched: only connections made inside `connect_watched` go through the copy, and of
  those only the files in folders that are watched.
* It needs the functions of the very library that Python's `sqlite3` uses; where they can not be found, `why_not` says.
"""

import contextlib
import ctypes
import os
import sqlite3
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, c_char_p, c_int, c_int64, c_void_p, cast
from functools import cache
from typing import Any, Protocol

SQLITE_OK = 0
METHODS = 18  # of a file, in version 3 of the table
CALLS = 16  # of a VFS, in version 3
CLOSE, WRITE, TRUNCATE, SYNC = 0, 2, 3, 4  # places in a file's table
OPEN, DELETE = 0, 1  # places in the VFS's
NAME = b"understudy-watched"


class Watcher(Protocol):
    """Who is told. A code other than 0 is the error that SQLite gets instead of the call being done."""

    def wrote(self, name: str, place: int, content: bytes) -> int: ...
    def truncated(self, name: str, size_bytes: int) -> None: ...
    def synced(self, name: str) -> int: ...
    def removed(self, name: str) -> None: ...


_watchers: dict[str, Watcher] = {}  # folder → who is told of it


def watch(folder: str, watcher: Watcher) -> None:
    """Tell somebody of all changes in a folder, from the next connection on."""
    _watchers[folder] = watcher


def unwatch(folder: str) -> None:
    """Tell nobody any more."""
    _watchers.pop(folder, None)


def connect_watched(connector: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    """Make a connection whose calls are seen; raises what the connector raises, RuntimeError where `why_not` says."""
    reason = why_not()
    if reason is not None:
        raise RuntimeError(reason)
    library, table = _library(), _layer().table
    library.sqlite3_vfs_register(addressof(table), 1)  # connections take the one that is the default at that moment
    try:
        return connector()
    finally:
        library.sqlite3_vfs_unregister(addressof(table))


@cache
def why_not() -> str | None:
    """Say why SQLite can not be watched with this Python; None when it can."""
    try:
        layer = _layer()
    except (ImportError, OSError, AttributeError, ValueError) as error:
        return f"The SQLite library of this Python can not be reached by ctypes ({error})."
    return None if layer.table.version >= 3 else "The SQLite library of this Python is too old to be watched."


class _Vfs(Structure):
    _fields_ = (
        ("version", c_int),
        ("file_bytes", c_int),
        ("path_max", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("app", c_void_p),
        ("calls", c_void_p * CALLS),
    )


class _Methods(Structure):
    _fields_ = (("version", c_int), ("calls", c_void_p * METHODS))


class _File(Structure):
    _fields_ = (("methods", POINTER(_Methods)),)


_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


@cache
def _library() -> Any:
    import _sqlite3  # noqa: PLC0415 - the library is the one that this very module was linked with

    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    if library.sqlite3_libversion_number() != int("{:d}{:03d}{:03d}".format(*sqlite3.sqlite_version_info)):
        raise ValueError("it is another library than the one in use")
    library.sqlite3_vfs_find.restype = c_void_p
    library.sqlite3_vfs_find.argtypes = (c_char_p,)
    library.sqlite3_vfs_register.argtypes = (c_void_p, c_int)
    library.sqlite3_vfs_unregister.argtypes = (c_void_p,)
    return library


@cache
def _layer() -> "_Layer":
    return _Layer()


class _Layer:
    """The copied tables. Made once and never given back: connections point into it."""

    def __init__(self) -> None:
        found = _library().sqlite3_vfs_find(None)
        if not found:
            raise ValueError("it has no VFS")
        self.table = _Vfs.from_buffer_copy(cast(found, POINTER(_Vfs)).contents)
        self.table.name = NAME
        self._real_open = cast(self.table.calls[OPEN], _Open)
        self._real_delete = cast(self.table.calls[DELETE], _Delete)
        self._open, self._delete = _Open(self._opened), _Delete(self._deleted)
        self.table.calls[OPEN] = cast(self._open, c_void_p).value
        self.table.calls[DELETE] = cast(self._delete, c_void_p).value
        self._close, self._write = _Close(self._closed), _Write(self._wrote)
        self._truncate, self._sync = _Truncate(self._truncated), _Sync(self._synced)
        self._methods: dict[int, _Methods] = {}  # address of a real table → our copy of it
        self._files: dict[int, tuple[Watcher, str]] = {}  # address of an open file → who is told, and its name
        self._real: dict[int, tuple[Any, Any, Any]] = {}  # address of an open file → its own close, write, truncate

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, flags_out: int) -> int:
        code = int(self._real_open(vfs, name, file, flags, flags_out))
        if code != SQLITE_OK or not name:
            return code
        folder, base = os.path.split(os.fsdecode(ctypes.string_at(name)))
        watcher = _watchers.get(folder)
        if watcher is not None:
            handle = cast(file, POINTER(_File)).contents
            calls = handle.methods.contents.calls
            self._real[file] = (
                cast(calls[CLOSE], _Close),
                cast(calls[WRITE], _Write),
                cast(calls[TRUNCATE], _Truncate),
            )
            self._files[file] = (watcher, base)
            handle.methods = ctypes.pointer(self._copy_of(handle.methods.contents))
        return code

    def _copy_of(self, methods: _Methods) -> _Methods:
        address = addressof(methods)
        if address not in self._methods:
            copy = _Methods.from_buffer_copy(methods)
            for place, own in (
                (CLOSE, self._close),
                (WRITE, self._write),
                (TRUNCATE, self._truncate),
                (SYNC, self._sync),
            ):
                copy.calls[place] = cast(own, c_void_p).value
            self._methods[address] = copy
        return self._methods[address]

    def _deleted(self, vfs: int, name: int, sync: int) -> int:
        folder, base = os.path.split(os.fsdecode(ctypes.string_at(name)))
        code = int(self._real_delete(vfs, name, 0))
        watcher = _watchers.get(folder)
        if code == SQLITE_OK and watcher is not None:
            watcher.removed(base)
        return code

    def _closed(self, file: int) -> int:
        del self._files[file]
        return int(self._real.pop(file)[0](file))

    def _wrote(self, file: int, content: int, size: int, place: int) -> int:
        watcher, name = self._files[file]
        code = watcher.wrote(name, place, ctypes.string_at(content, size))
        return code or int(self._real[file][1](file, content, size, place))

    def _truncated(self, file: int, size: int) -> int:
        watcher, name = self._files[file]
        watcher.truncated(name, size)
        return int(self._real[file][2](file, size))

    def _synced(self, file: int, flags: int) -> int:
        watcher, name = self._files[file]
        return watcher.synced(name)


def close_quietly(connection: sqlite3.Connection) -> None:
    """Close a connection nobody needs any more."""
    with contextlib.suppress(sqlite3.Error):
        connection.close()
