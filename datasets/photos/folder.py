"""Walking a folder of photographs: every file once, in a fixed order, whatever its name.

In: a folder. Out: files with their names (posix paths relative to it), and what cannot be read, with the reason.
"""

import os
import stat
from collections.abc import Collection
from pathlib import Path


def walk(root: Path, leave_out: Collection[Path] = ()) -> tuple[list[tuple[str, Path]], list[tuple[str, str]]]:
    """(name, path) of every regular file below root, sorted by name, and (name, reason) of every other entry.

    Symbolic links are followed; a link to a folder that has been walked already (a loop, or a second way to the same
    place) is listed with that reason instead. Folders in `leave_out` are passed over.
    """
    files: list[tuple[str, Path]] = []
    refused: list[tuple[str, str]] = []
    avoided = {os.path.realpath(folder) for folder in leave_out}
    links: list[str] = []  # links to folders wait: the real folder, if it lies below root, is walked under its own name
    walked: set[str] = set()

    def enter(folder: str) -> None:
        real = os.path.realpath(folder)
        if real in walked or real in avoided:
            return
        walked.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            refused.append((_name(folder, root), f"cannot be opened: {error.strerror}"))
            return
        for entry in entries:
            if entry.is_symlink() and os.path.isdir(entry.path):
                links.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                enter(entry.path)
            else:
                take(entry.path)

    def take(path: str) -> None:
        name = _name(path, root)
        reason = _why_not(path) or _bad_name(name)
        if reason:
            refused.append((printable(name), reason))
        else:
            files.append((name, Path(path)))

    enter(str(root))
    while links:
        link = links.pop(0)
        if os.path.realpath(link) in walked:
            refused.append((printable(_name(link, root)), "symbolic link to a folder that is read already"))
        else:
            enter(link)
    return sorted(files), sorted(refused)


def printable(name: str) -> str:
    """A name that can be printed and written as UTF-8: what cannot is shown as \\xNN."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _name(path: str, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _why_not(path: str) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if os.path.islink(path):
            return "broken symbolic link"
        return f"cannot be opened: {error.strerror}"
    # Opening a pipe would wait for ever.
    return None if stat.S_ISREG(mode) else "not a file (a pipe, socket or device)"


def _bad_name(name: str) -> str | None:
    """COLMAP's database, HDF5 and JSON hold names as UTF-8 text; pairs.txt is a file of lines."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not valid UTF-8: rename it"
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "its name holds a control character: rename it"
    return None
