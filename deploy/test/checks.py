"""What the tests of containers are told by: steps, checks, conditions that are waited for. Nothing here knows of a cluster."""

import time

began = time.monotonic()
held = []


class Failed(Exception):
    """A check that did not hold."""


def check(holds, otherwise):
    if not holds:
        raise Failed(otherwise)


def wait_until(holds, seconds, otherwise, every=0.5):
    """Gives what `holds` gave, as soon as that is something. `otherwise` says what there was instead."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        check(time.monotonic() < deadline, f"after {seconds} s {otherwise()}")
        time.sleep(every)


def step(text):
    elapsed = int(time.monotonic() - began)
    print(f"-- {text} (after {elapsed // 60}:{elapsed % 60:02})", flush=True)


def done(text):
    held.append(text)
    print(f"   ok: {text}", flush=True)


def skipped(text):
    print(f"   SKIPPED: {text}", flush=True)
