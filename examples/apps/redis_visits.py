"""Counts visits in Redis: many tasks, one pool of connections.

URING_TRIO=1 python redis_visits.py 6379
"""

import sys

import anyio
import coredis
import trio

PAGES = ("start", "news", "about")


async def visit(client: coredis.Redis[str], page: str) -> None:
    async with client.pipeline() as pipeline:
        pipeline.hincrby("visits", page, 1)
        pipeline.lpush("last", [page])
        pipeline.ltrim("last", 0, 9)


async def main(port: int) -> None:
    client = coredis.Redis(host="127.0.0.1", port=port, decode_responses=True)
    async with client:
        await client.delete(["visits", "last"])
        async with anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(visit, client, PAGES[number % 3])
        print(dict(sorted((await client.hgetall("visits")).items())))
        print(await client.llen("last"), "kept")
    print("by", trio.lowlevel.current_statistics().io_statistics.backend)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), backend="trio")
