"""In a forwarder of the drill: what `drill.json` beside its configuration says of its disk and its clock, at each moment.

    {"disk": "full" | "read-only" | "slow", "clock": 1200}

`disk` is of files that are made, written and synced below the spool; `clock` is how many seconds this machine is ahead.
Python imports this module at its start, before anything else; in every other process it does nothing.
"""

import sys


def _install(folder):  # type: ignore[no-untyped-def]
    import datetime
    import errno
    import json
    import os
    import stat
    import time

    file = os.path.join(folder, "drill.json")
    spool = os.path.join(folder, "spool")
    real_time, real_open, real_write, real_fsync, sleep = time.time, os.open, os.write, os.fsync, time.sleep
    seen = [0.0, {}]
    ours = set()

    def wrong():  # type: ignore[no-untyped-def]
        now = time.monotonic()
        if now - seen[0] > 0.1:
            seen[0] = now
            try:
                with open(file, encoding="utf-8") as found:
                    seen[1] = json.load(found)
            except (OSError, ValueError):
                seen[1] = {}
        return seen[1]

    def now():  # type: ignore[no-untyped-def]
        return real_time() + wrong().get("clock", 0)

    def opened(path, flags, *more, **keywords):  # type: ignore[no-untyped-def]
        in_spool = isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(spool)
        if in_spool and flags & os.O_CREAT and wrong().get("disk") == "read-only":
            raise OSError(errno.EROFS, "Read-only file system")
        descriptor = real_open(path, flags, *more, **keywords)
        (ours.add if in_spool else ours.discard)(descriptor)
        return descriptor

    def write(descriptor, data):  # type: ignore[no-untyped-def]
        full = descriptor in ours and wrong().get("disk") == "full"
        if full and stat.S_ISREG(os.fstat(descriptor).st_mode):  # a pipe may have its number since it was closed
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data)

    def fsync(descriptor):  # type: ignore[no-untyped-def]
        if descriptor in ours and wrong().get("disk") == "slow":
            sleep(0.3)
        return real_fsync(descriptor)

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def]
            return cls.fromtimestamp(now(), tz)

    time.time, os.open, os.write, os.fsync = now, opened, write, fsync
    datetime.datetime = Shifted


_said = getattr(sys, "orig_argv", [])
if "forwarder" in _said and "run" in _said and "--config" in _said:
    import os.path

    _install(os.path.dirname(_said[_said.index("--config") + 1]))
