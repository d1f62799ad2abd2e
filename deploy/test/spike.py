"""Many searches at the same moment, each on a connection of its own."""

import asyncio
import json
import random
import resource
import time
from collections import Counter

from client import COLLECTION, DIMENSIONS
from workload import NAMESPACES

# Of files beside the connections.
OTHER_FILES = 200
ANSWER_SECONDS = 30


def fire(port, searches, timeout_ms=None):
    """How many were answered which way, and how long the last took. Ways are a status, with `without Retry-After` where that is missing and
    due, or `broken`. Without `timeout_ms` the coordinator's own deadline holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, searches + OTHER_FILES)), hard))
    return asyncio.run(all_at_once(port, searches, timeout_ms))


async def all_at_once(port, searches, timeout_ms):
    go = asyncio.Event()
    connected = await asyncio.gather(*[asyncio.open_connection("127.0.0.1", port) for _ in range(searches)])
    tasks = [asyncio.create_task(one(reader, writer, go, timeout_ms)) for reader, writer in connected]
    began = time.monotonic()
    go.set()
    ways = Counter(await asyncio.gather(*tasks))
    return ways, time.monotonic() - began


async def one(reader, writer, go, timeout_ms):
    vector = [random.gauss(0, 1) for _ in range(DIMENSIONS)]
    body = json.dumps({"vector": vector, "k": 10, "namespaces": [random.choice(NAMESPACES)], "cache": "bypass"})
    head = f"POST /v1/collections/{COLLECTION}/search HTTP/1.1\r\nHost: atoll\r\nContent-Type: application/json\r\nConnection: close\r\n"
    if timeout_ms is not None:
        head += f"X-Timeout-Ms: {timeout_ms}\r\n"
    await go.wait()
    try:
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = await asyncio.wait_for(reader.read(), ANSWER_SECONDS)
    except (OSError, asyncio.TimeoutError):
        return "broken"
    finally:
        writer.close()
    return way(answer)


def way(answer):
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1").lower()
    status = head[9:12]
    if not status.isdigit():
        return "broken"
    missing = status in ("429", "503") and "\r\nretry-after:" not in head
    return f"{status} without Retry-After" if missing else status
