"""An instance from its start to its exit code: begun afresh, going on after an upgrade, or tried for one."""

import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable

from meshdns import log as logs
from meshdns.config import Config
from meshdns.errors import MeshdnsError, StoreError
from meshdns.processes import handover as handovers
from meshdns.processes.handover import Handover, HandoverError
from meshdns.processes.lock import DirectoryError, DirectoryLock, InUseError
from meshdns.processes.parts import PARTS, Parts
from meshdns.processes.signals import Signals
from meshdns.processes.status_file import directory
from meshdns.processes.supervisor import Former, Supervisor, tell_store
from meshdns.processes.upgrade import TRIAL_TIME
from meshdns.transport import inherited
from meshdns.transport.inherited import take_up
from meshdns.transport.sockets import BindError, bind_column

log = logging.getLogger(__name__)


def serve(read: Callable[[], Config], *, parts: Parts = PARTS, trial: int | None = None) -> int:
    """Run an instance until it is told to end; give the exit code of ``meshdns serve``.

    read: gives the configuration, now and again (SIGHUP); raises ConfigError. trial: only find out whether an upgrade
    to this image would do; the descriptor takes the configuration that it would run with. Exit codes: 0 ended as
    told, 2 the data directory or the store cannot be used, 3 an address or the data directory is in use.
    """
    if trial is not None:
        return _try_out(read, parts, trial)
    try:
        handed = handovers.receive(os.environ, of=os.getpid())
        if handed is None:
            return _begin(read, parts)
        return _go_on(read, parts, handed)
    except (InUseError, BindError) as fault:
        log.error("%s", fault)
        return 3
    except (DirectoryError, StoreError, HandoverError) as fault:
        log.error("%s", fault)
        return 2


def _begin(read: Callable[[], Config], parts: Parts) -> int:
    config = read()
    logs.setup(config.log_level)
    given = inherited.from_service_manager(os.environ)
    signals = Signals()
    try:
        lock = DirectoryLock(config.data_dir)
        for former in directory(config.data_dir).glob("*"):
            former.unlink(missing_ok=True)
        bound, unused = take_up(config.listen, config.responders, given)
        inherited.refuse_unused(unused, config.listen, config.responders)
        text, damaged = parts.check(config.data_dir)
        tell_store(text, damaged=damaged)
        return Supervisor(config, bound, lock, signals, reload=read, parts=parts).run()
    finally:
        signals.close()


def _go_on(read: Callable[[], Config], parts: Parts, handed: Handover) -> int:
    """Go on where the image before this one stopped, with the configuration that was tried."""
    config = Config.model_validate_json(handed.config)
    logs.setup(config.log_level)
    os.set_inheritable(handed.lock, False)
    lock = DirectoryLock.held(handed.lock)
    given = [each.given() for each in handed.sockets]
    children = [each.child() for each in handed.children]
    signals = Signals()
    try:
        bound, unused = take_up(config.listen, config.responders, given, lenient=True)
        return Supervisor(config, bound, lock, signals, reload=read, parts=parts).run(Former(handed, children, unused))
    finally:
        signals.close()


def _try_out(read: Callable[[], Config], parts: Parts, told: int) -> int:
    """Find out whether this image could go on where our parent would stop: nothing is changed, nobody is served."""
    signal.alarm(int(TRIAL_TIME))  # our parent may be gone by then
    try:
        handed = handovers.receive(os.environ, of=os.getppid())
        if handed is None:
            raise HandoverError("--trial is for upgrades: 'kill -USR2' to the running supervisor begins one")
        config = read()
        if str(config.data_dir) != handed.data_dir:
            raise HandoverError(
                f"data_dir cannot change by an upgrade (it is {handed.data_dir}, the configuration says "
                f"{config.data_dir}): that needs a restart"
            )
        held = [each.given() for each in handed.sockets]
        for text in config.listen:
            if not any(each.is_for(text) for each in held):
                for endpoint in bind_column(text, 1):
                    endpoint.udp.close()
                    endpoint.tcp.close()
        parts.look(config.data_dir)
        importlib.import_module(parts.sync)
        if config.upstreams:
            importlib.import_module("meshdns.processes.forwarding")
    except MeshdnsError as fault:
        print(fault, file=sys.stderr)
        return 2
    with open(told, "wb") as file:
        file.write(config.model_dump_json().encode())
    return 0
