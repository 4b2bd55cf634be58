"""The run directory: the only thing that commands, studies and the report share.

Every file is written to a temporary name and renamed, so a reader never sees half of one; `config.json`
says what the run is, and a command that would continue another configuration is refused. Where several processes
work together, the first one alone touches the disk; the others are told what it reads there.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from nodelens.errors import InputError
from nodelens.files import exists, read_json, why_unwritable, write_atomically, write_tensors
from nodelens.processes import by_first, first_only
from nodelens.provenance import source_commit, versions


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Names of the settings that differ, `probe.seeds` for one within another."""
    for name in {**one, **other}:
        # None is what was not asked for, and what a version did not know that could not be asked for it.
        a, b = one.get(name), other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from (f"{name}.{inner}" for inner in _differing(a, b))
        elif a != b:
            yield name


@dataclass(frozen=True)
class RunDirectory:
    """Paths and files of one run."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # of a string too

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the directory for this process and those that work together with it.

        A directory that is made for a command that is then refused goes again.

        Raises:
            InputError: another process works in it, or it cannot be written.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        made = not exists(self.path)
        by_first(self._take)(lock)
        try:
            yield
        except InputError:
            if made:
                self._leave_if_empty(lock)
            raise
        finally:
            lock.release()

    def _take(self, lock: FileLock) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"another process is working in {self.path}; wait for it or choose another --out"
            ) from error
        except OSError as error:
            raise InputError(why_unwritable(self.path, error)) from error

    @first_only
    def _leave_if_empty(self, lock: FileLock) -> None:
        """Remove the directory where nothing is in it but the lock, while that is held."""
        if list(self.path.iterdir()) == [Path(lock.lock_file)]:
            Path(lock.lock_file).unlink()
            self.path.rmdir()

    def configuration(self) -> dict[str, Any]:
        """`config.json`: one section per command that ran here; empty when there is none yet."""
        path = self.path / "config.json"
        return read_json(path) if exists(path) else {}

    def settings(self, command: str) -> dict[str, Any]:
        """The settings with which a command ran here; empty where it did not."""
        found: dict[str, Any] = self.configuration().get(command, {}).get("settings", {})
        return found

    def configure(self, command: str, settings: Mapping[str, Any], **facts: Any) -> None:
        """Record a command's resolved settings, or check that they are those recorded before.

        Args:
            command: section of `config.json`.
            settings: what determines the result; must be the same when the command is run again.
            facts: what is only reported (versions, the device) and may change; those of the process that began stay.

        Raises:
            InputError: the directory belongs to another configuration.
        """
        self.check_configuration(command, settings)
        sections = self.configuration()
        known = sections.get(command, {})
        # Of the process that began the run: one that only continues it or reads it again changes none of them.
        facts = {"versions": versions(), "commit": source_commit(), **facts}
        sections[command] = {**facts, **known, "settings": json.loads(json.dumps(settings))}
        self.write_json("config.json", sections)

    def report(self, command: str, how: Mapping[str, Any], optional: Sequence[str] = ()) -> None:
        """Record how a command last summed up what it has measured: what its tables and figures were made with.

        Args:
            optional: glob patterns of those that are not written every time; they go where they were made otherwise.
        """
        sections, now = self.configuration(), json.loads(json.dumps(dict(how)))
        before = sections.get(command, {}).get("reported", now)
        if before != now:
            self._remove(optional)
        sections[command] = {**sections.get(command, {}), "reported": now}
        self.write_json("config.json", sections)

    @contextmanager
    def configured(
        self, command: str, settings: Mapping[str, Any], kept: Sequence[str], **facts: Any
    ) -> Iterator[None]:
        """As `configure`; settings that are new here are forgotten where the block is refused before it keeps anything.

        So others can be tried in the same directory.

        Args:
            kept: glob patterns of the files that belong to the settings.

        Raises:
            InputError: the directory belongs to another configuration.
        """
        with self._if_first_and_refused(command, self._forget, kept):
            self.configure(command, settings, **facts)
            yield

    @first_only
    def _forget(self, command: str, kept: Sequence[str]) -> None:
        if any(True for pattern in kept for _ in self.path.glob(pattern)):
            return
        path = self.path / "config.json"
        if not path.exists():
            return
        sections = {name: section for name, section in read_json(path).items() if name != command}
        if sections:
            self.write_json(path.name, sections)
        else:
            path.unlink()

    @contextmanager
    def undone_if_refused(self, command: str, kept: Sequence[str]) -> Iterator[None]:
        """What a command keeps here for the first time goes again where the block is refused.

        Args:
            kept: glob patterns of the files that belong to its settings.
        """
        with self._if_first_and_refused(command, self._undo, kept):
            yield

    @contextmanager
    def _if_first_and_refused(
        self, command: str, undo: Callable[[str, Sequence[str]], None], kept: Sequence[str]
    ) -> Iterator[None]:
        """Undo what the block did where it is refused and the command had no settings here before."""
        new = not self.settings(command)
        try:
            yield
        except InputError:
            if new:
                undo(command, kept)
            raise

    @first_only
    def _undo(self, command: str, kept: Sequence[str]) -> None:
        self._remove(kept)
        for folder in {self.path / Path(pattern).parent for pattern in kept}:
            with suppress(OSError):  # what else is in it stays
                folder.rmdir()
        self._forget(command, kept)

    @first_only
    def _remove(self, patterns: Sequence[str]) -> None:
        for path in [path for pattern in patterns for path in self.path.glob(pattern) if path.is_file()]:
            path.unlink()

    def check_configuration(self, command: str, settings: Mapping[str, Any], option: str = "--out") -> None:
        """Check that a command's resolved settings are those recorded before, if any were; records nothing.

        Args:
            option: of the command line, with which another directory is chosen.

        Raises:
            InputError: the directory belongs to another configuration.
        """
        wanted = json.loads(json.dumps(settings))
        changed = list(_differing(self.configuration().get(command, {}).get("settings", wanted), wanted))
        if changed:
            raise InputError(
                f"{self.path} belongs to another {command} configuration (different: {', '.join(sorted(changed))}); "
                f"choose another {option} or repeat the command that started it"
            )

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, (json.dumps(content, indent=1) + "\n").encode())

    def write_text(self, name: str, content: str) -> None:
        write_atomically(self.path / name, content.encode())

    def write_tensors(
        self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        write_tensors(self.path / name, tensors, metadata)

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write `tables/<name>.csv`; a column that only some rows have is empty in the others."""
        buffer = io.StringIO()
        columns = dict.fromkeys(column for row in rows for column in row)
        writer = csv.DictWriter(buffer, fieldnames=list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        path = self.path / "tables" / f"{name}.csv"
        write_atomically(path, buffer.getvalue().encode())
        return path

    @first_only
    def log(self, event: Mapping[str, Any]) -> None:
        """Append one line to `log.jsonl`."""
        try:
            with (self.path / "log.jsonl").open("ab+") as file:
                cut_off = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
                file.write(b"\n" * cut_off + json.dumps(event).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())  # before the checkpoint that counts on it
        except OSError as error:
            raise InputError(why_unwritable(self.path / "log.jsonl", error)) from error

    @by_first
    def events(self, command: str) -> list[dict[str, Any]]:
        """The log's events of one command; a line cut off by a crash is skipped."""
        return [event for _, event in self._logged() if event.get("command") == command]

    @first_only
    def forget_events_after(self, command: str, step: int) -> None:
        """Drop a command's events later than `step`: a resumed command will write them again."""
        path = self.path / "log.jsonl"
        if path.exists():
            kept = [
                f"{line}\n"
                for line, event in self._logged()
                if event.get("command") != command or event.get("step", 0) <= step
            ]
            write_atomically(path, "".join(kept).encode())

    def _logged(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The log's lines and what they say; what is no event is skipped."""
        path = self.path / "log.jsonl"
        for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield line, event
