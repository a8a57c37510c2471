"""What holds for every test."""

import signal

from hypothesis import settings


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test; a shell's background jobs, and CI's, start with SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A deadline per example would measure what else the machine does; a test that hangs has pytest's timeout.
    settings.register_profile("frostline", deadline=None)
    settings.load_profile("frostline")
